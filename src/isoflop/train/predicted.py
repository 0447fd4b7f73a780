"""What counting and planning expect of a recipe, without torch: memory, speed, time.

Where the device has no measured row, nothing is said of its speed: a number that rests on nothing is worse than none.
"""

import itertools
import platform

from msgspec import Struct, structs

from isoflop import tables, units
from isoflop.count.memory_peak import memory
from isoflop.errors import IsoflopError
from isoflop.plan.speed import throughput
from isoflop.specs.cluster import Device
from isoflop.specs.engine import Computed, Engine
from isoflop.specs.layout import Layout, Training
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Predicted
from isoflop.train.cores import cores

_CALIBRATE = "`isoflop calibrate` measures this machine"


class _Usual(Struct, frozen=True, kw_only=True):
    """Of a row of `tables/engines.toml`, what can be known before torch is asked."""

    name: str
    micro_tokens: int


def usual_engine(recipe: Recipe, *, kind: str) -> Engine:
    """What a "cpu" or a "cuda" device would begin with, had it all the memory it wants; see `train.engine`.

    A precision left open is bf16 on a GPU; a CPU decides by its processor, and the wider fp32 is assumed.
    """
    tokens = recipe.micro_tokens or tables.find("engines", _Usual, kind).micro_tokens
    rows = min(recipe.sequences, max(1, tokens // recipe.row.text))
    precision: Computed = {"cpu": "fp32", "cuda": "bf16"}[kind] if recipe.precision == "auto" else recipe.precision  # type: ignore[assignment]
    return Engine(precision=precision, compiled=recipe.compile is True, rows=rows)


def layout_of(recipe: Recipe, *, rows: int) -> Layout:
    """As the recipe was planned; else one device that takes `rows` sequences at once."""
    return recipe.layout or Layout(
        sharding="ddp",
        recompute=recipe.recompute,
        devices=1,
        micro_batch=rows,
        sequence=recipe.model.context,
        accumulation=-(-recipe.sequences // rows),
    )


def training_of(recipe: Recipe, engine: Engine) -> Training:
    """What of the recipe decides memory and speed beside its layout."""
    row = recipe.row
    said = None if row.said == row.inputs else row.said
    return Training(precision=engine.precision, optimizer=recipe.optimizer.name, loss_head=recipe.loss_head, said=said)


def predict(recipe: Recipe, *, engine: Engine, layout: Layout, device: Device | None, why_not: str = "") -> Predicted:
    """Memory of a device; speed and time where the device is known.

    Args:
        engine: what steps are computed with.
        layout: see `layout_of`.
        device: its row; None where there is none.
        why_not: in that case, why.
    """
    if recipe.data.stages:
        return _over_phases(recipe, engine=engine, layout=layout, device=device, why_not=why_not)
    without: list[str] = []
    found: dict[str, float] = {}
    training = training_of(recipe, engine)
    try:
        need = memory(recipe.model, layout, training)
        found |= {
            "memory_bytes": need.total_bytes,
            "memory_bytes_lo": need.lo_bytes,
            "memory_bytes_hi": need.hi_bytes,
        }
    except IsoflopError as error:
        without.append(f"memory: {error}")
    if device is None:
        without.append(f"tokens/s: {why_not}")
    else:
        try:
            speed = throughput(device, recipe.model, layout, training).tokens_per_s_per_device
            text = layout.devices * recipe.row.text / recipe.row.inputs  # of each token that is read
            found["tokens_per_s"] = speed.value * text
            found["tokens_per_s_lo"], found["tokens_per_s_hi"] = speed.lo * text, speed.hi * text
            found["wall_s"] = recipe.steps * recipe.batch_tokens / found["tokens_per_s"]
        except IsoflopError as error:
            without.append(f"tokens/s: {error}")
    return Predicted(**found, without=tuple(without))


def _over_phases(recipe: Recipe, *, engine: Engine, layout: Layout, device: Device | None, why_not: str) -> Predicted:
    """The memory of the phase that needs most, and the time of all."""
    phases = recipe.phases
    every = [
        predict(
            recipe.within(phase),
            engine=engine,
            layout=layout.stretched(phase.model.context / recipe.model.context),
            device=device,
            why_not=why_not,
        )
        for phase in phases
    ]
    most = max(every, key=lambda one: one.memory_bytes or 0.0)
    begins = [*(phase.begins for phase in phases), recipe.steps]
    tokens = [(end - begin) * recipe.batch_tokens for begin, end in itertools.pairwise(begins)]

    def rate(name: str) -> float | None:
        rates = [getattr(one, name) for one in every]
        return None if None in rates else sum(tokens) / sum(n / each for n, each in zip(tokens, rates, strict=True))

    speed = rate("tokens_per_s")
    return structs.replace(
        most,
        tokens_per_s=speed,
        tokens_per_s_lo=rate("tokens_per_s_lo"),
        tokens_per_s_hi=rate("tokens_per_s_hi"),
        wall_s=None if speed is None else sum(tokens) / speed,
        without=tuple(dict.fromkeys(why for one in every for why in one.without)),
    )


def here(recipe: Recipe, *, engine: Engine, kind: str, name: str, layout: Layout | None = None) -> Predicted:
    """Of a recipe that this machine trains now, on a "cpu" or on the "cuda" device that torch calls `name`.

    Args:
        layout: on how many of them, and how; None for one, however the recipe was planned.
    """
    if layout is not None and layout.tensor > 1:
        return Predicted(
            without=("memory and tokens/s: the count has embedding, head and norms cut too; here they are whole",)
        )
    device, why_not = this_processor(recipe) if kind == "cpu" else accelerator(name)
    alone = structs.replace(recipe, layout=None)
    layout = layout or layout_of(alone, rows=engine.rows)
    return predict(recipe, engine=engine, layout=layout, device=device, why_not=why_not)


def sentence(predicted: Predicted) -> str:
    """For people."""
    said = []
    if predicted.memory_bytes is not None:
        said.append(f"{units.show(predicted.memory_bytes, 'bytes')} of memory")
    if predicted.tokens_per_s is not None and predicted.wall_s is not None:
        rate, wall = units.show(predicted.tokens_per_s, "tokens"), units.show(predicted.wall_s, "s")
        said.append(f"{rate} tokens/s, {wall} of training")
    parts = [f"predicted {', '.join(said)}"] if said else []
    return "; ".join([*parts, *(f"no prediction of {reason}" for reason in predicted.without)])


def this_processor(recipe: Recipe) -> tuple[Device | None, str]:
    """The row of this machine's CPU, or why none holds for the recipe.

    Rows of a CPU are of one process on all its cores (`train.calibrate`): another number of threads is another device.
    """
    row = _own_row()
    if row is None:
        return None, f"nobody measured this processor; {_CALIBRATE}"
    if (usable := cores().usable) != recipe.threads:
        return None, f"row {row.name} is of {usable} threads, and the recipe trains with {recipe.threads}"
    return row, ""


def accelerator(name: str) -> tuple[Device | None, str]:
    """The row of an accelerator by the name torch has for it, e.g. "NVIDIA H100 80GB HBM3"."""
    row = tables.called(name, tables.rows("devices", Device))
    return row, "" if row else f"no row in the table of devices is called {name!r}; {_CALIBRATE}"


def _own_row() -> Device | None:
    """What `isoflop calibrate` wrote of this machine's CPU."""
    rows = tables.rows("devices", Device)
    row = tables.called(platform.node().partition(".")[0], rows)
    return row if row is not None and row.counts_as.startswith("one process") else None
