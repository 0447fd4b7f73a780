"""`isoflop train --dry-run`: what a recipe would do, before torch is imported."""

from pathlib import Path
from typing import Any, NamedTuple

from msgspec import to_builtins

from isoflop import units
from isoflop.cli.shell import Output, Printer
from isoflop.count.parameters import parameters
from isoflop.count.text import law_flop_per_text_token, model_flop
from isoflop.data.shards import open_shards
from isoflop.data.sources import open_sources
from isoflop.errors import InputError, IsoflopError
from isoflop.specs.cluster import Device
from isoflop.specs.data import Data, Phase
from isoflop.specs.recipe import Recipe
from isoflop.tables import find
from isoflop.train.place import locate
from isoflop.train.predicted import layout_of, predict, this_processor, usual_engine
from isoflop.train.repeats import repeated


def show(recipe: Recipe, *, gpus: str | None, output: Output) -> None:
    """Print size, work, memory, speed and data of a recipe.

    Args:
        gpus: devices to predict for, "8xH100"; None for this machine's processor.
    """
    payload = _payload(recipe, gpus=gpus)
    output.show(payload, lambda printer: _render(printer, payload))


def _payload(recipe: Recipe, *, gpus: str | None) -> dict[str, Any]:
    counted = parameters(recipe.model)
    n_tokens = recipe.steps * recipe.batch_tokens
    device, why_not = _device(recipe, gpus=gpus)
    kind = "cpu" if gpus is None else "cuda"
    engine = usual_engine(recipe, kind=kind)
    layout = layout_of(recipe, rows=engine.rows)
    predicted = predict(recipe, engine=engine, layout=layout, device=device, why_not=why_not)
    capacity = None if device is None else device.memory_bytes / device.dies
    reads = _reads(recipe)
    problems = [*reads.problems, *_origin(recipe)]
    if gpus and (asked := units.parse_devices(gpus, name="--gpus").count) != layout.devices:
        problems.append(f"the recipe is laid out for {layout.devices} devices, not for the {asked} of --gpus {gpus}")
    return {
        "recipe": recipe.name,
        "n_params": counted.total,
        "n_params_active": counted.active,
        "steps": recipe.steps,
        "n_tokens": n_tokens,
        "batch_tokens": recipe.batch_tokens,
        "compute_flop": law_flop_per_text_token(recipe) * n_tokens,
        "model_flop": model_flop(recipe),
        "precision": engine.precision,
        "layout": to_builtins(layout),
        "device": None if device is None else device.name,
        "capacity_bytes": capacity,
        "fits": None if capacity is None or predicted.memory_bytes is None else predicted.memory_bytes <= capacity,
        **to_builtins(predicted),
        "shards": recipe.shards or None,
        "unique_tokens": reads.there,
        "epochs": reads.epochs,
        "sources": reads.sources,
        "stages": [_stage(recipe, phase) for phase in recipe.phases] if recipe.data != Data() else [],
        "repeated": reads.repeated,
        "missing": problems,
    }


def _device(recipe: Recipe, *, gpus: str | None) -> tuple[Device | None, str]:
    if gpus is not None:
        return find("devices", Device, units.parse_devices(gpus, name="--gpus").device), ""
    if recipe.layout is not None and recipe.layout.devices > 1:
        return None, f"say which {recipe.layout.devices} devices: --gpus {recipe.layout.devices}xH100"
    return this_processor(recipe)


class _Reads(NamedTuple):
    """What a recipe would read, as far as its shards are there.

    Attributes:
        sources: by name, where its shards lie and, where they all are there, how much of them.
        there: tokens of those that it reads; None where some are not there.
        epochs: times that these are read, all together.
        repeated: a sentence for each that is read too often.
        problems: what stands in the way of training.
    """

    sources: dict[str, dict[str, Any]]
    there: int | None = None
    epochs: float | None = None
    repeated: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def _reads(recipe: Recipe) -> _Reads:
    places: dict[str, dict[str, Any]] = {source.name: {"shards": source.shards} for source in recipe.sources}
    lost = [problem for source in recipe.sources if (problem := _lost(source.shards))]
    if lost:
        return _Reads(places, problems=tuple(lost))
    try:
        sources = open_sources(recipe.sources)
        read = dict(zip(places, sources.mixture(recipe).read(recipe.steps), strict=True))
    except IsoflopError as error:
        return _Reads(places, problems=(str(error),))
    there = {name: shards.header.splits["train"].n_tokens for name, shards in sources.shards.items()}
    told = {name: place | {"there_tokens": there[name], **to_builtins(read[name])} for name, place in places.items()}
    whole = sum(there[name] for name, one in read.items() if one.n_tokens)
    lack = recipe.lacking_ids(sources.vocabulary)
    epochs = recipe.steps * recipe.batch_tokens / whole
    return _Reads(told, whole, epochs, tuple(repeated(read)), (lack,) if lack else ())


def _lost(folder: str) -> str:
    """Why these shards cannot be read; "" where they can."""
    try:
        open_shards(Path(folder))
    except InputError as error:
        return str(error)
    return ""


def _stage(recipe: Recipe, phase: Phase) -> dict[str, Any]:
    """One change, in plain data."""
    alike = recipe.within(phase)
    total = sum(phase.parts)
    return {
        "at_step": phase.begins,
        "at_tokens": phase.begins * recipe.batch_tokens,
        "shares": {source.name: part / total for source, part in zip(recipe.sources, phase.parts, strict=True)},
        "context": alike.model.context,
        "rope_theta": getattr(alike.model, "rope_theta", None),
    }


def _origin(recipe: Recipe) -> list[str]:
    """That the checkpoint it begins from is not there."""
    if recipe.origin is None:
        return []
    try:
        locate(recipe.origin.checkpoint)
    except InputError as error:
        return [str(error)]
    return []


def _render(printer: Printer, told: dict[str, Any]) -> None:
    size = units.show(told["n_params"], "parameters")
    if told["n_params_active"] != told["n_params"]:
        size += f", {units.show(told['n_params_active'], 'parameters')} active a token"
    layout = told["layout"]
    where = told["device"] or ("this processor" if layout["devices"] == 1 else "devices nobody named")
    facts = [
        ("parameters", size),
        ("steps", f"{told['steps']:,} of {units.show(told['batch_tokens'], 'tokens')} tokens"),
        ("tokens", units.show(told["n_tokens"], "tokens") + _epochs(told)),
        (
            "work",
            f"{units.show(told['compute_flop'], 'FLOP')} as laws count, "
            f"{units.show(told['model_flop'], 'FLOP')} with attention",
        ),
        ("devices", f"{layout['devices']} x {where}, {layout['sharding']}, {layout['micro_batch']} sequences at once"),
        ("memory", _between(told, "memory_bytes", "bytes", " a device") + _fit(told)),
        ("tokens/s", _between(told, "tokens_per_s", "tokens", "/s")),
        ("time", "" if told["wall_s"] is None else units.show(told["wall_s"], "s") + " of training steps"),
    ]
    facts += _mixture(told)
    printer.facts(f"{told['recipe']}: not trained, only foreseen", [(name, value) for name, value in facts if value])
    for reason in told["without"]:
        printer.line(f"no prediction of {reason}")
    for sentence in told["repeated"]:
        printer.warn(sentence)
    for problem in told["missing"]:
        printer.warn(f"missing: {problem}")


def _epochs(told: dict[str, Any]) -> str:
    if told["unique_tokens"] is None:
        return ""
    where = told["shards"] or f"{len(told['sources'])} sources"
    return f", {told['epochs']:.2g} times the {units.show(told['unique_tokens'], 'tokens')} in {where}"


def _mixture(told: dict[str, Any]) -> list[tuple[str, str]]:
    """A line for each source and each stage, where there are several."""
    facts = []
    for name, one in told["sources"].items() if len(told["sources"]) > 1 else ():
        if "n_tokens" in one:
            read, there = (units.show(one[key], "tokens") for key in ("n_tokens", "there_tokens"))
            facts.append((f"of {name}", f"{read} tokens, {one['epochs']:.2g} times the {there} in {one['shards']}"))
    for stage in told["stages"]:
        shares = ", ".join(f"{share:.3g} {name}" for name, share in stage["shares"].items() if share)
        theta = "" if stage["rope_theta"] is None else f", rope_theta {stage['rope_theta']:g}"
        facts.append((f"from step {stage['at_step']:,}", f"{shares}; context {stage['context']}{theta}"))
    return facts


def _between(told: dict[str, Any], name: str, dimension: units.Dimension, unit: str) -> str:
    if told[name] is None:
        return ""
    value, lo, hi = (units.show(told[name + end], dimension) for end in ("", "_lo", "_hi"))
    return f"{value}{unit} ({lo} to {hi})"


def _fit(told: dict[str, Any]) -> str:
    if told["fits"] is None:
        return ""
    verdict = "fits" if told["fits"] else "DOES NOT FIT"
    return f", of {units.show(told['capacity_bytes'], 'bytes')}: {verdict}"
