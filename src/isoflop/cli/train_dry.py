"""`isoflop train --dry-run`: what a recipe would do, before torch is imported."""

from pathlib import Path
from typing import Any

from msgspec import to_builtins

from isoflop import units
from isoflop.cli.shell import Output, Printer
from isoflop.count.parameters import parameters
from isoflop.count.text import flop_per_text_token, law_flop_per_text_token
from isoflop.data.shards import open_shards
from isoflop.errors import InputError
from isoflop.specs.cluster import Device
from isoflop.specs.recipe import Recipe
from isoflop.tables import find
from isoflop.train.place import locate
from isoflop.train.predicted import layout_of, predict, this_processor, usual_engine


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
    unique, problems = _data(recipe)
    problems += _origin(recipe)
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
        "model_flop": flop_per_text_token(recipe) * n_tokens,
        "precision": engine.precision,
        "layout": to_builtins(layout),
        "device": None if device is None else device.name,
        "capacity_bytes": capacity,
        "fits": None if capacity is None or predicted.memory_bytes is None else predicted.memory_bytes <= capacity,
        **to_builtins(predicted),
        "shards": recipe.shards,
        "unique_tokens": unique,
        "epochs": unique and n_tokens / unique,
        "missing": problems,
    }


def _device(recipe: Recipe, *, gpus: str | None) -> tuple[Device | None, str]:
    if gpus is not None:
        return find("devices", Device, units.parse_devices(gpus, name="--gpus").device), ""
    if recipe.layout is not None and recipe.layout.devices > 1:
        return None, f"say which {recipe.layout.devices} devices: --gpus {recipe.layout.devices}xH100"
    return this_processor(recipe)


def _data(recipe: Recipe) -> tuple[int | None, list[str]]:
    """Tokens to train on, where there are shards, and what stands in the way of training."""
    try:
        header = open_shards(Path(recipe.shards)).header
    except InputError as error:
        return None, [str(error)]
    problems = []
    if lack := recipe.lacking_ids(header.vocabulary):
        problems.append(lack)
    return header.splits["train"].n_tokens, problems


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
    printer.facts(f"{told['recipe']}: not trained, only foreseen", [(name, value) for name, value in facts if value])
    for reason in told["without"]:
        printer.line(f"no prediction of {reason}")
    for problem in told["missing"]:
        printer.warn(f"missing: {problem}")


def _epochs(told: dict[str, Any]) -> str:
    if told["unique_tokens"] is None:
        return ""
    return f", {told['epochs']:.2g} times the {units.show(told['unique_tokens'], 'tokens')} in {told['shards']}"


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
