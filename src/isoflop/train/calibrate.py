"""This machine as rows of the tables: its peaks, its bandwidths, and how its training steps come out of them.

One device of it is one process with all cores, or one GPU. Peaks and bandwidths are measured alone; the factors of
`plan.speed` are then fitted to training steps of several shapes of our own decoder, starting from what other devices
have in common. The last shape is not fitted: what the fit says of it beside what it takes is how far to trust the rows.
"""

import platform
import tempfile
from collections.abc import Callable, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict

from isoflop import stamp
from isoflop.count.parameters import parameters
from isoflop.errors import UnknownNameError
from isoflop.plan.speed_fit import FACTORS, Fitted, Step, bounds, fit, predict, speed_row
from isoflop.specs.architecture import Decoder
from isoflop.specs.cluster import Device
from isoflop.specs.layout import Layout, Training
from isoflop.specs.recipe import Recipe
from isoflop.tables import find
from isoflop.tables.records import Speed
from isoflop.train.crew import Crew
from isoflop.train.meter import Machine, Precision
from isoflop.train.protocol import Gather, Steps
from isoflop.train.survey import measure_machine

Listener = Callable[[str], None]

LEAST_ERROR = 0.1
"""Bounds are no narrower than this: another hour finds the same machine some per cent faster or slower."""

_APART = 1.0
_ROUNDS = 3
_TOKENS = 2048
# Layers, width, hidden, vocabulary, context. Each makes another term large; the last is kept to check.
_SHAPES = {
    "cpu": (
        (4, 128, 384, 1024, 128), (6, 256, 704, 4096, 256), (4, 384, 1024, 8192, 256), (4, 256, 704, 1024, 1024),
        (2, 512, 1408, 2048, 512), (5, 320, 896, 4096, 512),
    ),
    "cuda": (
        (12, 768, 2048, 32_768, 1024), (24, 1024, 2816, 32_768, 1024), (12, 2048, 5632, 32_768, 1024),
        (12, 1024, 2816, 8192, 4096), (8, 3072, 8192, 8192, 2048), (16, 1536, 4096, 32_768, 2048),
    ),
}  # fmt: skip
_CUDA_TOKENS = 16_384


class Check(Struct, frozen=True, kw_only=True):
    """One training step: measured, and said by the fit; `fitted` is false for the shape kept to check."""

    n_params: int
    context: int
    precision: str
    tokens_per_s: float
    predicted_tokens_per_s: float
    fitted: bool


class Calibration(Struct, frozen=True, kw_only=True):
    """What was measured, as rows of the tables and as they were found."""

    device: Device
    speed: Speed
    checks: list[Check]
    gather_bytes_per_s: float | None


def calibrate(*, name: str, seconds: float = 3.0, progress: Listener = lambda _: None) -> Calibration:
    """Measure this machine.

    Args:
        name: of the rows.
        seconds: for each of the six shapes and three rounds; the rest takes some seconds.
        progress: told what is being done.

    Raises:
        IsoflopError: torch is missing or does not start.
    """
    progress("matrix products and memory")
    machine = measure_machine(seconds=min(seconds, 1.0))
    kind = "cuda" if machine.accelerators else "cpu"
    gather = None
    if kind == "cpu" and machine.cores > 1:
        progress(f"a gather among {machine.cores} processes")
        gather = _gather(machine.cores, seconds=seconds / 2)
    device = _device(machine, name=name, gather=gather)
    steps = _steps(machine, device, kind=kind, seconds=seconds, progress=progress)
    held = {steps[-1].size}
    seen = [step for step in steps if step.size not in held]
    fitted = fit(seen, start=_expected(), apart=_APART)
    said = predict(steps, fitted)
    return Calibration(
        device=device,
        speed=_speed(fitted, steps, said, held, name=name),
        checks=[
            Check(
                n_params=parameters(step.architecture).total,
                context=step.layout.sequence,
                precision=step.training.precision,
                tokens_per_s=step.tokens_per_s_per_device,
                predicted_tokens_per_s=each,
                fitted=step.size not in held,
            )
            for step, each in zip(steps, said, strict=True)
        ],
        gather_bytes_per_s=gather,
    )


def _precision(machine: Machine) -> Precision:
    """The one that multiplies faster: what a plan would train in."""
    return max((rate for rate in machine.rates if rate.processes == 1), key=lambda rate: rate.flop_per_s).precision


def _gather(ranks: int, *, seconds: float) -> float:
    with Crew.of_processes(ranks, threads=1) as crew, tempfile.TemporaryDirectory(prefix="isoflop-") as folder:
        crew.all_ready()
        return min(crew.ask(Gather(meeting=str(Path(folder) / "meeting"), ranks=ranks, seconds=seconds)))


def _device(machine: Machine, *, name: str, gather: float | None) -> Device:
    alone = {rate.precision: rate.flop_per_s for rate in machine.rates if rate.processes == 1}
    known = _known(machine)
    if known is not None:
        counts_as, memory_bytes, power_w = known.counts_as, known.memory_bytes, known.power_w
    else:
        counts_as = f"one process with {machine.cores} threads, on all cores"
        memory_bytes, power_w = _memory(machine), None
    return Device(
        name=name,
        dense_flop_per_s={precision: float(f"{rate:.4g}") for precision, rate in alone.items()},
        memory_bytes=memory_bytes,
        memory_bytes_per_s=float(f"{machine.copy_bytes_per_s:.4g}"),
        link_bytes_per_s=known.link_bytes_per_s if known else (gather and float(f"{2 * gather:.4g}")),
        network_bytes_per_s=known.network_bytes_per_s if known else None,
        power_w=power_w,
        counts_as=counts_as,
        source=_source(machine),
    )


def _known(machine: Machine) -> Device | None:
    """The accelerator's own row: what is not measured here comes from it."""
    if not machine.accelerators:
        return None
    try:
        return find("devices", Device, machine.accelerators[0].name)
    except UnknownNameError:
        return None


def _memory(machine: Machine) -> float:
    from isoflop.train.cores import memory_of_machine

    if machine.accelerators:
        return machine.accelerators[0].memory_bytes
    return memory_of_machine()[0] or 8e9


def _source(machine: Machine) -> str:
    made = stamp.make()
    return f"measured by isoflop calibrate on {platform.node()}, {made.time[:10]}, torch {machine.torch}: {machine.how}"


def _steps(machine: Machine, device: Device, *, kind: str, seconds: float, progress: Listener) -> list[Step]:
    """Every shape, in rounds; the best round counts, since neighbours on the machine only ever make one slower."""
    precision = _precision(machine)
    recipes = [_recipe(shape, precision=precision, threads=machine.cores, kind=kind) for shape in _SHAPES[kind]]
    best = [0.0] * len(recipes)
    with Crew.of_processes(1, threads=machine.cores) as crew:
        crew.all_ready()
        for turn in range(_ROUNDS):
            for k, recipe in enumerate(recipes):
                size = parameters(recipe.model).total / 1e6
                progress(f"round {turn + 1} of {_ROUNDS}: training steps of {size:.1f}M parameters in {precision}")
                best[k] = max(best[k], crew.ask(Steps(recipe=recipe, seconds=seconds))[0])
    return [_step(recipe, device, rate) for recipe, rate in zip(recipes, best, strict=True)]


def _recipe(shape: tuple[int, ...], *, precision: Precision, threads: int, kind: str) -> Recipe:
    layers, width, hidden, vocabulary, context = shape
    heads = max(1, width // 64)
    tokens = _TOKENS if kind == "cpu" else _CUDA_TOKENS
    return Recipe(
        name="calibrate",
        shards="",
        model=Decoder(
            layers=layers, width=width, heads=heads, kv_heads=heads, head_size=width // heads, hidden=hidden,
            vocabulary=vocabulary, context=context,
        ),
        n_tokens=tokens,
        batch_tokens=tokens,
        precision=precision,
        threads=threads,
    )  # fmt: skip


def _step(recipe: Recipe, device: Device, tokens_per_s: float) -> Step:
    model = recipe.model
    return Step(
        size=f"{model.layers}x{model.width}x{model.context}",
        device=device,
        architecture=model,
        layout=Layout(
            sharding="ddp", recompute="none", devices=1, micro_batch=recipe.sequences, sequence=model.context
        ),
        training=Training(precision="bf16" if recipe.precision == "bf16" else "fp32", loss_head="chunked"),
        tokens_per_s_per_device=tokens_per_s,
    )


def _expected() -> dict[str, float]:
    """What other devices have in common."""
    other = asdict(find("speeds", Speed, "other"))
    return {factor: other[factor] for factor in FACTORS}


def _speed(fitted: Fitted, steps: Sequence[Step], said: Sequence[float], held: set[str], *, name: str) -> Speed:
    errors = np.array([log(each / step.tokens_per_s_per_device) for step, each in zip(steps, said, strict=True)])
    sides = bounds(errors[[step.size in held for step in steps]], level=1.0)
    half = max(LEAST_ERROR, -log(sides[0]), float(np.quantile(np.abs(errors), 0.9)))
    sizes = np.array([float(parameters(step.architecture).total) for step in steps])
    return speed_row(
        name, fitted.of(name), (exp(-half), exp(half)), sizes, find("speeds", Speed, "other").per_decade,
        steps[0].device.source, rows=len(steps) - len(held),
    )  # fmt: skip


def rows_toml(found: Calibration) -> str:
    """The rows as a file that `--tables` takes."""
    import tomli_w

    def row(value: Any) -> dict[str, Any]:
        return {key: each for key, each in asdict(value).items() if each not in (None, []) and key != "name"}

    device, speed = row(found.device), row(found.speed)
    speed["n_params"] = list(found.speed.n_params)
    return tomli_w.dumps({"devices": {found.device.name: device}, "speeds": {found.speed.name: speed}})
