"""Beginning a run from another run's checkpoint: found, held against the recipe, taken up.

Only our own checkpoints are read: safetensors whose every byte agrees with its manifest, beside the `recipe.toml` and
`run.json` of the run that wrote them. Nothing is unpickled.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import structs

from isoflop import files
from isoflop.count.text import flop_per_text_token, law_flop_per_text_token
from isoflop.data.sources import Sources
from isoflop.errors import InputError, UsageError
from isoflop.specs import recipe_file
from isoflop.specs.engine import Engine
from isoflop.specs.origin import Ancestor, Origin, Take
from isoflop.specs.parametrisation import scales
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import checkpoint, store
from isoflop.train import manifest as manifests
from isoflop.train.counters import Counters
from isoflop.train.manifest import Manifest
from isoflop.train.place import locate
from isoflop.train.schedule import multiplier

if TYPE_CHECKING:
    from isoflop.train.learner import Learner

_POSITIONS = frozenset({"context", "rope_theta", "rope_scaling", "window", "full_every"})
"""Of an architecture: what may change between a checkpoint and a run that takes its weights."""

_FREE = frozenset(
    {
        "name", "shards", "n_tokens", "schedule", "validation_tokens", "evaluations", "precision", "recompute",
        "loss_head", "device", "threads", "role", "layout", "origin", "compile", "micro_tokens",
        "checkpoint", "divergence", "data",
    }
)  # fmt: skip
"""Of a recipe: what may change where a checkpoint's state is taken; the data are compared by what they hold."""

_MULTIPLIED = {"logits": "logits", "attention": "attention scores", "branch": "blocks' outputs"}

_COMPARED = 256  # steps of two schedules, their last common one among them


class Found(NamedTuple):
    """A checkpoint and the run that wrote it.

    Attributes:
        folder: of the checkpoint.
        manifest: its own, whole; the tensors are not read yet.
    """

    folder: Path
    manifest: Manifest
    run: Run
    recipe: Recipe

    @property
    def step(self) -> int:
        """Optimizer steps that the weights had taken in their run."""
        return self.manifest.step


def find(name: str) -> Found:
    """The checkpoint of this name: its folder, "RUN@STEP", or a run's folder for its newest.

    Raises:
        InputError: there is none, or what lies there is damaged, another run's or at step 0.
    """
    folder, home = locate(name)
    manifest = manifests.read(folder)
    run = files.read_json(home / store.RUN, Run)
    if run.key != manifest.key:
        raise InputError(f"{folder}: written by run {manifest.key}, and {home / store.RUN} is of {run.key}")
    if manifest.step < 1:
        raise InputError(f"{folder}: of step 0, where nothing has been trained yet")
    return Found(folder, manifest, run, recipe_file.load(home / store.RECIPE))


def identity(manifest: Manifest, take: Take) -> str:
    """The sha256 of what is taken: of the weights' file, or of all the files."""
    if take == "weights":
        return manifest.members["model.safetensors"].sha256
    return files.sha256_value({name: member.sha256 for name, member in manifest.members.items()})


def resolved(recipe: Recipe, *, folder: Path, sources: Sources) -> tuple[Recipe, Ancestor | None]:
    """The recipe with the hash of its origin, and that origin's story; (recipe, None) where it begins anew.

    A run of this folder that has begun needs its origin no more: where that is gone, `run.json` knows its story.

    Raises:
        InputError: no such checkpoint, or a damaged one.
        UsageError: the recipe cannot go on from there, or states the hash of another checkpoint.
    """
    origin = recipe.origin
    if origin is None:
        return recipe, None
    try:
        found = find(origin.checkpoint)
    except InputError:
        known = begun(folder, origin)
        if known is None:
            raise
        return structs.replace(recipe, origin=structs.replace(origin, sha256=known.sha256)), known
    sha256 = identity(found.manifest, origin.take)
    if origin.sha256 not in (None, sha256):
        raise UsageError(
            f"recipe: origin.sha256 begins with {str(origin.sha256)[:16]}, and what {found.folder} holds with "
            f"{sha256[:16]}: another checkpoint. Leave origin.sha256 out to take this one"
        )
    check(recipe, found, sources)
    return structs.replace(recipe, origin=structs.replace(origin, sha256=sha256)), ancestor(recipe, found, sources)


def begun(folder: Path, origin: Origin) -> Ancestor | None:
    """The story of that origin, as a run that began from it here has written it down."""
    run = store.read(folder)
    known = None if run is None else run.origin
    if known is None or known.take != origin.take or origin.sha256 not in (None, known.sha256):
        return None
    return known


def ancestor(recipe: Recipe, found: Found, sources: Sources) -> Ancestor:
    """The story that a run of this recipe has behind it."""
    assert recipe.origin is not None
    take, before, theirs = recipe.origin.take, found.run.origin, found.recipe
    own_tokens = (found.step - (before.begins if before else 0)) * theirs.batch_tokens
    return Ancestor(
        run=found.run.id,
        key=found.manifest.key,
        step=found.step,
        take=take,
        sha256=identity(found.manifest, take),
        n_tokens=own_tokens + (before.n_tokens if before else 0.0),
        compute_flop=law_flop_per_text_token(theirs) * own_tokens + (before.compute_flop if before else 0.0),
        learning_rate=found.run.learning_rate,
        model_flop=_model_flop(theirs, own_tokens, before),
        skipped_steps=_behind(recipe, found, sources),
        fresh=take == "state" and (before is None or before.fresh),
    )


def _model_flop(theirs: Recipe, own_tokens: int, before: Ancestor | None) -> float | None:
    """Work with attention over all that a checkpoint's weights have seen; None where a run before did not tell."""
    own = flop_per_text_token(theirs) * own_tokens
    if before is None:
        return own
    return None if before.model_flop is None else own + before.model_flop


def _behind(recipe: Recipe, found: Found, sources: Sources) -> int:
    """Batches of this recipe's data order that the weights have seen and its own steps do not count."""
    theirs = found.recipe
    behind = found.run.origin.skipped_steps if found.run.origin else 0
    if recipe.origin is not None and recipe.origin.take == "state":
        return behind
    same = (
        not theirs.data.stages
        and _of_their_data(found, sources)
        and all(
            ours == before
            for ours, before in (
                (recipe.seed, theirs.seed),
                (recipe.batch_tokens, theirs.batch_tokens),
                (recipe.model.context, theirs.model.context),
                (recipe.phases[0].parts, theirs.phases[0].parts),
            )
        )
    )
    return behind + msgspec.convert(found.manifest.state, Counters).batch if same else 0


def check(recipe: Recipe, found: Found, sources: Sources) -> None:
    """Hold the recipe against the checkpoint.

    Raises:
        UsageError: they do not go together; says why, and what would.
    """
    assert recipe.origin is not None
    where = f"recipe: cannot go on from {found.folder}"
    families = [model.__struct_config__.tag for model in (recipe.model, found.recipe.model)]
    if families[0] != families[1]:
        raise UsageError(f"{where}: model.family is {families[0]}, and was {families[1]}")
    kept = _POSITIONS if recipe.origin.take == "weights" else frozenset()
    for name, ours, before in _differences(recipe.model, found.recipe.model):
        if name not in kept:
            why = "its weights are of that shape" if name not in _POSITIONS else 'only take = "weights" may change it'
            raise UsageError(f"{where}: model.{name} is {ours}, and was {before}; {why}")
    _check_function(recipe, found, where)
    theirs = found.run.tokenizer_sha256
    if theirs is not None and sources.tokenizer_sha256 != theirs:
        raise UsageError(
            f"{where}: {recipe.sources[0].shards} is written with another tokenizer, {sources.tokenizer_sha256[:16]} "
            f"and not {theirs[:16]}. Write it again with `isoflop data tokenize --tokenizer "
            f"{found.recipe.sources[0].shards}`"
        )
    if recipe.origin.take == "state":
        _check_state(recipe, found, sources, where)


def _check_function(recipe: Recipe, found: Found, where: str) -> None:
    """A parametrisation multiplies logits, attention and branches: with others the weights are another model's.

    Its factors on first weights, rates, epsilon and decay are free, as weights alone know nothing of them.
    """
    ours, theirs = (scales(each.parametrisation, each.model) for each in (recipe, found.recipe))
    for name in ("logits", "attention", "branch"):
        if getattr(ours, name) != getattr(theirs, name):
            raise UsageError(
                f"{where}: parametrisation {ours.name!r} multiplies its {_MULTIPLIED[name]} by other numbers than "
                f"{theirs.name!r} did in training, and the model would say something else. Keep the [parametrisation] "
                "of that run"
            )


def _check_state(recipe: Recipe, found: Found, sources: Sources, where: str) -> None:
    """With its state a checkpoint is gone on from only as its own run would have."""
    advice = 'Set it back, or take = "weights"'
    for name, ours, before in _differences(recipe.optimizer, found.recipe.optimizer):
        raise UsageError(f"{where} with its state: optimizer.{name} is {ours}, and was {before}. {advice}")
    for name, ours, before in _differences(recipe, found.recipe):
        if name not in _FREE:
            raise UsageError(f"{where} with its state: {name} is {ours}, and was {before}. {advice}")
    if not _of_their_data(found, sources):
        raise UsageError(
            f"{where} with its state: {recipe.sources[0].shards} holds other data. Take them back, or take = "
            '"weights"; data of more sources come behind those that it has read'
        )
    batches = msgspec.convert(found.manifest.state, Counters).batch
    if _read_before(recipe, batches, sources=len(recipe.sources)) != _read_before(
        found.recipe, batches, sources=len(recipe.sources)
    ):
        raise UsageError(
            f"{where} with its state: [data] has other weights or contexts than it had in its {batches} batches. "
            f'Change them from {batches * recipe.batch_tokens} tokens on, or take = "weights"'
        )
    if recipe.steps <= found.step:
        raise UsageError(
            f"{where} with its state: n_tokens {recipe.n_tokens} are {recipe.steps} steps, counted from that run's "
            f"beginning, and {found.step} are done"
        )
    for step in sorted({round(i * (found.step - 1) / _COMPARED) for i in range(_COMPARED + 1)}):
        before = multiplier(found.recipe.schedule, step=step, steps=found.recipe.steps)
        ours = multiplier(recipe.schedule, step=step, steps=recipe.steps)
        if abs(ours - before) > 1e-12:
            raise UsageError(
                f"{where} with its state: at step {step} its rate was {before:.6g} of the peak, and this schedule has "
                f'{ours:.6g}. Let the schedules agree up to step {found.step}, or take = "weights"'
            )


def _of_their_data(found: Found, sources: Sources) -> bool:
    """Whether what that run has read are the first of these sources."""
    read = len(found.recipe.sources)
    if read > len(sources.shards):
        return False
    return found.recipe.key(data_sha256=sources.first(read).content_sha256) == found.manifest.key


def _read_before(recipe: Recipe, batches: int, *, sources: int) -> list[Any]:
    """How so many first batches were made up, with no part of sources that were added later."""
    return [
        (phase.begins, phase.model, phase.parts + (0,) * (sources - len(phase.parts)))
        for phase in recipe.phases
        if phase.begins < batches
    ]


def _differences(ours: msgspec.Struct, theirs: msgspec.Struct) -> list[tuple[str, Any, Any]]:
    """Fields that differ, with both values."""
    return [
        (name, getattr(ours, name), getattr(theirs, name, None))
        for name in ours.__struct_fields__
        if getattr(ours, name) != getattr(theirs, name, None)
    ]


def begin(learner: "Learner", recipe: Recipe, ancestor: Ancestor, fresh: Counters) -> Counters:
    """Take up the origin's tensors; where that leaves the run.

    Args:
        fresh: counters of a run that begins.

    Raises:
        InputError: the checkpoint is gone or damaged, or does not fit the model.
        UsageError: with its state the peak of the learning rate would be another.
    """
    assert recipe.origin is not None
    found = checkpoint.load(locate(recipe.origin.checkpoint)[0])
    if identity(found.manifest, ancestor.take) != ancestor.sha256:
        raise InputError(f"{found.folder}: changed while the run began")
    if ancestor.take == "weights":
        learner.load_weights(found.tensors["model"])
        return fresh
    if learner.peak_learning_rate != ancestor.learning_rate:
        raise UsageError(
            f"recipe: the peak is {learner.peak_learning_rate:.6g} here, and was {ancestor.learning_rate} in run "
            f"{ancestor.run}; set optimizer.learning_rate={ancestor.learning_rate}"
        )
    counters = msgspec.convert(found.manifest.state, Counters)
    same_parts = recipe.micro_tokens == found.manifest.recipe.get("micro_tokens")
    learner.restore(found.tensors, _engine(learner.engine, counters.engine, same_parts=same_parts))
    counters.branch(steps=recipe.steps, rule=recipe.divergence)
    return counters


def _engine(ours: Engine, theirs: Engine | None, *, same_parts: bool) -> Engine | None:
    """How the checkpoint's run computed, rows of a part included, unless this recipe asks for another way."""
    same = theirs is not None and (ours.precision, ours.compiled) == (theirs.precision, theirs.compiled)
    return theirs if same and same_parts else None
