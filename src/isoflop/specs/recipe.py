"""Everything that decides a training run. Two equal recipes on equal data are the same run."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, cast

from msgspec import Struct, convert, structs, to_builtins

from isoflop.errors import UsageError
from isoflop.files import sha256_value
from isoflop.specs import architecture, optimizer, schedule
from isoflop.specs.architecture import Decoder, Model
from isoflop.specs.data import Data, Phase, Source, Stage, parts
from isoflop.specs.divergence import Divergence
from isoflop.specs.engine import Asked
from isoflop.specs.layout import Layout, Recompute
from isoflop.specs.objective import CAUSAL, Family, Objective, Row
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.origin import Origin
from isoflop.specs.parametrisation import Parametrisation, scales
from isoflop.specs.role import Role
from isoflop.specs.saving import Saving
from isoflop.specs.schedule import Schedule

_ADDED: dict[str, object] = {
    "recompute": "none", "loss_head": "chunked", "layout": None, "compile": False, "micro_tokens": None, "origin": None,
    "divergence": Divergence(),
    "parametrisation": Parametrisation(), "data": Data(),
}  # fmt: skip
"""Fields younger than runs that exist: at these values a run keeps the key that it had without them."""
_UNDECISIVE = {"name", "shards", "checkpoint"}
"""Fields that say nothing of what is computed."""
_POSITIONS = ("context", "rope_theta", "rope_scaling")
"""Of a model: what a stage may change."""

_MOST_THREADS = 1024  # beyond the largest machine; a slip of the hand would fill it with waiting threads


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training run.

    Attributes:
        shards: folder written by `isoflop data tokenize`; it holds the splits `train` and `validation`.
        data: several such folders by weight, in place of `shards`, and what changes at which number of tokens.
        n_tokens: tokens of text to train on, rounded down to whole steps.
        batch_tokens: tokens of text of one optimizer step, a multiple of what a sequence holds: the context, but where
            the objective says otherwise (`row`).
        objective: what is learned; left out, what is usual for the model's family.
        validation_tokens: tokens of the final evaluation, spread over the validation split; of a mixture's splits each
            has an equal share of them, whatever its weight.
        evaluations: evaluations spread over the run, the final one included.
        precision: of matrix products, weights stay fp32: "fp32"; "bf16"; "fp16" with scaled losses and "fp8" through
            torchao, both on GPUs; "auto" by size from measurement (`train.engine`), said and kept for the whole run.
        compile: blocks through torch.compile; "auto" where the run is long enough to gain by it.
        micro_tokens: tokens whose activations exist at once, rounded down to sequences; None takes what is fast and
            fits. It changes the last digits.
        recompute: what the backward pass computes again instead of keeping.
        loss_head: logits in chunks, or whole as torch's own cross-entropy has them; like `recompute` it changes memory,
            time and the last digits.
        threads: CPU threads of the run; it changes the last digits, so it is part of the run.
        parametrisation: which rules carry the learning rate from the sizes where it was tuned to this model's.
        role: "fit" for runs a law may see; others see `specs.role`.
        layout: how the run was planned to lie on its devices; None leaves that to the trainer.
        origin: the checkpoint it begins from; None begins anew. Where it takes a checkpoint's state, `n_tokens` and the
            schedule count from that run's beginning.
        checkpoint: when it is saved and what is kept; no part of the key.
        divergence: what it does about a step that hurts.
    """

    name: str
    shards: str = ""
    data: Data = Data()
    model: Model
    n_tokens: int
    batch_tokens: int
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    parametrisation: Parametrisation = Parametrisation()
    seed: int = 0
    precision: Asked = "fp32"
    compile: bool | Literal["auto"] = False
    micro_tokens: int | None = None
    recompute: Recompute = "none"
    loss_head: Literal["chunked", "eager"] = "chunked"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    validation_tokens: int = 262_144
    evaluations: int = 5
    role: Role = "fit"
    layout: Layout | None = None
    origin: Origin | None = None
    checkpoint: Saving = Saving()
    divergence: Divergence = Divergence()
    schema: Literal["isoflop/recipe@1"] = "isoflop/recipe@1"

    def __post_init__(self) -> None:
        for name in ("n_tokens", "batch_tokens", "threads", "validation_tokens", "evaluations"):
            if getattr(self, name) < 1:
                raise UsageError(f"recipe: {name} is {getattr(self, name)}; it must be at least 1")
        if self.threads > _MOST_THREADS:
            raise UsageError(f"recipe: threads is {self.threads}; it must be at most {_MOST_THREADS}")
        if self.seed < 0:
            raise UsageError(f"recipe: seed is {self.seed}; it must be 0 or more")
        if self.batch_tokens % self.row.text:
            raise UsageError(f"recipe: batch_tokens {self.batch_tokens} is not a multiple of {self._of_a_row()}")
        if self.micro_tokens is not None and self.micro_tokens < self.row.text:
            raise UsageError(
                f"recipe: micro_tokens is {self.micro_tokens}; a part holds at least one sequence, {self.row.text} "
                "tokens"
            )
        dense = isinstance(self.model, Decoder) and not self.model.experts
        if self.recompute == "selective" and not dense:
            other = "experts" if isinstance(self.model, Decoder) else "encoders"
            raise UsageError(f'recipe: recompute = "selective" knows no {other}; take "full" or "none"')
        scales(self.parametrisation, self.model)  # which refuses what it has no rules for
        if self.steps < 1:
            raise UsageError(f"recipe: n_tokens {self.n_tokens} is less than one batch of {self.batch_tokens} tokens")
        if self.shards and self.data.sources:
            raise UsageError(f"recipe: shards is {self.shards!r} and there are data.sources; give one of the two")
        if self.data.stages:
            self._check_stages()

    @property
    def family(self) -> Family:
        """Of the model."""
        return cast(Family, self.model.__struct_config__.tag)

    @property
    def learned(self) -> Objective:
        """The objective with all that the recipe leaves to the model's family said.

        Raises:
            UsageError: this model cannot learn it.
        """
        return self.objective.settled(self.family)

    @property
    def row(self) -> Row:
        """What one sequence takes of the text and gives to the model."""
        return self.learned.row(self.model.context, self.family)

    @property
    def sequences(self) -> int:
        """Sequences of one step."""
        return self.batch_tokens // self.row.text

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.n_tokens // self.batch_tokens

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it reads; the one folder of `shards` as a source, too."""
        return self.data.sources or (
            Source(name=PurePath(self.shards).name.replace(".", "-") or "text", shards=self.shards, weight=1.0),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What holds from which step on; the first begins at step 0."""
        sources = self.sources
        found = [Phase(begins=0, model=self.model, parts=parts([source.weight for source in sources]))]
        for stage in self.data.stages:
            before = found[-1]
            shares = (
                parts([stage.weights.get(source.name, 0.0) for source in sources]) if stage.weights else before.parts
            )
            found.append(
                Phase(begins=stage.at_tokens // self.batch_tokens, model=_stretched(before.model, stage), parts=shares)
            )
        return tuple(found)

    def within(self, phase: Phase) -> "Recipe":
        """One phase as a recipe of its own, as if it were the whole run: its model, its weights, no stages."""
        if not self.data.stages:
            return self
        sources = tuple(
            structs.replace(source, weight=float(part))
            for source, part in zip(self.data.sources, phase.parts, strict=False)
        )
        layout = self.layout and self.layout.stretched(phase.model.context / self.model.context)
        return structs.replace(self, model=phase.model, data=Data(sources=sources), layout=layout)

    def _check_stages(self) -> None:
        """Each phase is a run that can be, and none is empty."""
        phases = self.phases
        for before, phase, stage in zip(phases, phases[1:], self.data.stages, strict=False):
            if not before.begins < phase.begins < self.steps:
                raise UsageError(
                    f"recipe: data.stages: at_tokens {stage.at_tokens} is step {phase.begins}, by batches of "
                    f"{self.batch_tokens} tokens; it must lie behind step {before.begins} and before the end, "
                    f"{self.steps}"
                )
            self.within(phase)

    def lacking_ids(self, text: int) -> str:
        """What to say where the model has too few ids for text written in so many, and for what stands in its place."""
        extra = self.row.extra_ids
        if self.model.vocabulary >= text + extra:
            return ""
        besides = f', and "{self.learned.name}" needs {extra} more for what stands in place of text' if extra else ""
        return (
            f"model.vocabulary is {self.model.vocabulary}, but {self.sources[0].shards} is written in {text} "
            f"tokens{besides}; "
            f"set it to at least {text + extra}"
        )

    def _of_a_row(self) -> str:
        """The text of one sequence, in words, with what to take where that is not the context."""
        text, context = self.row.text, self.model.context
        if text == context:
            return f"the context {context}"
        less = self.batch_tokens // text * text
        near = f"{less} or {less + text}" if less else f"{text}"
        return f'the {text} tokens of text that a sequence of "{self.learned.name}" holds; take {near}'

    def key(self, *, data_sha256: str) -> str:
        """Identity of the run: equal recipes on equal data share it, wherever the shards lie."""
        # As a file would give it back: 0 where a float belongs is 0.0.
        typed = convert(to_builtins(self), Recipe)
        decisive = {name: getattr(typed, name) for name in self.__struct_fields__ if name not in _UNDECISIVE}
        # Younger than runs that exist, too: None where a number was. They are the same schedule, and the same run.
        planned = structs.replace(typed.schedule, cooldown_fraction=typed.schedule.cooldown)
        decisive = _without(decisive, _ADDED)
        decisive.pop("data", None)  # names and folders decide nothing
        if len(typed.sources) > 1 or typed.data.stages:
            phases = [to_builtins(phase) for phase in typed.phases]
            decisive["phases"] = [
                {
                    "begins": phase["begins"],
                    "parts": phase["parts"],
                    **{name: phase["model"].get(name) for name in _POSITIONS},
                }
                for phase in phases
            ]
        decisive["optimizer"] = _without(structs.asdict(typed.optimizer), optimizer.ADDED)
        decisive["schedule"] = _without(structs.asdict(planned), schedule.ADDED)
        if typed.learned == CAUSAL:
            del decisive["objective"]
        else:
            decisive["objective"] = {"name": typed.learned.name, **typed.learned.unusual}
        decisive["model"] = _without(to_builtins(typed.model), architecture.ADDED)
        if typed.origin is not None:  # what is taken decides, not where it lies
            decisive["origin"] = {"take": typed.origin.take, "sha256": typed.origin.sha256}
        return sha256_value([decisive, data_sha256])[:16]


def _stretched(model: Model, stage: Stage) -> Model:
    """The model with the stage's context and rotary positions.

    Raises:
        UsageError: it has none that could change, or they cannot be so.
    """
    asked = {"context": stage.context, "rope_theta": stage.rope_theta, "rope_scaling": stage.rope_scaling}
    asked = {name: value for name, value in asked.items() if value is not None}
    if asked and not isinstance(model, Decoder):
        raise UsageError(f"recipe: data.stages: {next(iter(asked))}: only a decoder's positions can be stretched")
    return structs.replace(model, **asked)


def _without(fields: Mapping[str, Any], usual: Mapping[str, object]) -> dict[str, Any]:
    """The fields that are not at their usual values."""
    return {name: value for name, value in fields.items() if name not in usual or value != usual[name]}
