"""How fast a step is: the time of `speed_terms` at rated speed, weighed by what was measured on the device.

    step = (products' + attention' + pointwise' + head' + model-parallel traffic' + blocks') (1 + bubble)
           + optimizer' + data traffic'

A prime is the term times the device's factor for it (`tables/speeds.toml`): how many times longer than at rated speed,
or for traffic, how much of it no computing hides. The factors are fitted to published steps (`speed_fit`). A device
nobody measured takes the row "other", pooled over all devices, with bounds as wide as pooling was wrong about a device
it had not seen. Both widen, in decades, where a model is smaller or larger than those measured, and by as much as for
an unknown device where it is a mixture of experts, of which no step is published.

Source of the roofline: Williams et al. 2009 (10.1145/1498765.1498785); its terms are added up rather than the largest
taken, since within one step they follow each other.
"""

from math import exp, hypot, log, log10
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from isoflop.count.memory_columns import Columns
from isoflop.count.memory_kinds import transformer
from isoflop.count.parameters import parameters
from isoflop.errors import UsageError
from isoflop.plan.speed_terms import UNKNOWN_NETWORK, Terms, terms
from isoflop.specs.architecture import Architecture
from isoflop.specs.cluster import Device
from isoflop.specs.interval import Interval
from isoflop.specs.layout import Layout, Training
from isoflop.specs.transformer import Experts
from isoflop.tables import called, find, rows
from isoflop.tables.records import Speed
from isoflop.units import show

Array: TypeAlias = npt.NDArray[np.float64]

_LEVEL = 0.9  # of the bounds in the table


class Throughput(Struct, frozen=True, kw_only=True):
    """Steady-state speed of one layout.

    Attributes:
        mfu: model FLOP, attention as the full square, over the dense peak.
        tokens_per_s_per_device: devices as torch sees them; of an encoder-decoder the tokens that its encoder reads.
        step_s: of one optimizer step.
        parts_s: where its time goes; they add up to `step_s`.
        measured: the device's own steps stand behind it.
        warnings: what its reader has to be told.
    """

    mfu: Interval
    tokens_per_s_per_device: Interval
    step_s: Interval
    parts_s: dict[str, float]
    measured: bool
    warnings: list[str]


class Sweep(Struct, frozen=True, kw_only=True):
    """MFU of many layouts; arrays of their shape, the bounds for `level`."""

    mfu: Array
    mfu_lo: Array
    mfu_hi: Array
    step_s: Array


def speed_of(device: Device, *, tables: Path | None = None) -> Speed:
    """The device's row, or "other"; a user's row may be called by any of the device's names."""
    by_key = rows("speeds", Speed, extra=tables)
    found = (called(name, by_key) for name in (*device.aliases, device.name))
    own = next((row for row in found if row is not None), None)
    return find("speeds", Speed, "other", extra=tables) if own is None else own


def throughput(
    device: Device,
    architecture: Architecture,
    layout: Layout,
    training: Training | None = None,
    *,
    level: float = _LEVEL,
    tables: Path | None = None,
) -> Throughput:
    """Speed of one layout.

    Args:
        level: of the intervals.
        tables: a file of one's own rows.

    Raises:
        UsageError: the device has no peak for the precision, or the level is not between 0 and 1.
    """
    trained, row = training or Training(), speed_of(device, tables=tables)
    columns = Columns.of(layout, trained)
    found = terms(
        device, architecture, columns, precision=trained.precision, sequence=layout.sequence, said=trained.said
    )
    parts = {name: float(part) for name, part in parts_s(row, found, precision=trained.precision).items()}
    step_s = sum(parts.values())
    lo, hi = _bounds(row, architecture, level, tables)
    return Throughput(
        mfu=_around(float(found.flop) / step_s / found.peak, lo, hi, level),
        tokens_per_s_per_device=_around(float(found.tokens) / step_s, lo, hi, level),
        step_s=_around(step_s, 1 / hi, 1 / lo, level),
        parts_s=parts,
        measured=row.name != "other",
        warnings=_warnings(row, device, architecture, layout),
    )


def speed_sweep(
    device: Device, architecture: Architecture, *, level: float = _LEVEL, tables: Path | None = None, **fields: Any
) -> Sweep:
    """MFU of many layouts at once: 10,000 in some milliseconds.

    Args:
        fields: those of `Layout` and `Training`, as `count.memory_sweep` takes them: each a value or an array. One
            `precision`, one `sequence` and one `said` for all of them.

    Raises:
        UnknownNameError: no such field, or no such name in one.
        UsageError: a degree below 1, several precisions or sequences, or a precision the device has no peak for.
    """
    open_ = {"adapter_rank": np.nan, "said": np.nan}
    defaults = {**open_, "precision": "bf16", "optimizer": "adamw", "loss_head": "eager"}
    degrees = dict.fromkeys(
        ("tensor", "pipeline", "virtual_stages", "context", "expert", "replicas", "accumulation"), 1
    )
    given = {**defaults, **degrees, "method": "pretrain", **fields}
    precision, sequence = (_one(name, given.get(name)) for name in ("precision", "sequence"))
    row = speed_of(device, tables=tables)
    share = float(_one("said", given["said"]))
    said = None if np.isnan(share) else share
    found = terms(device, architecture, Columns(given), precision=str(precision), sequence=int(sequence), said=said)
    step_s = np.asarray(sum(parts_s(row, found, precision=str(precision)).values()))
    mfu = np.asarray(found.flop / step_s / found.peak)
    lo, hi = _bounds(row, architecture, level, tables)
    return Sweep(mfu=mfu, mfu_lo=mfu * lo, mfu_hi=np.minimum(mfu * hi, 1.0), step_s=step_s)


def parts_s(row: Speed, t: Terms, *, precision: str) -> dict[str, Any]:
    """Seconds of a step by what they go to: the terms, weighed."""
    slower = row.products * (row.fp8 if precision == "fp8" else 1.0)
    piped = {
        "products": slower * t.products,
        "attention": row.attention * t.attention,
        "pointwise": row.memory * t.pointwise,
        "loss head": row.memory * t.head,
        "model-parallel traffic": row.exchange * (t.tensor + t.context + t.expert + t.pipeline),
        "launches and waiting": row.block_s * t.blocks,
    }
    return {
        **piped,
        "pipeline bubble": t.bubble * sum(piped.values()),
        "optimizer": row.memory * t.optimizer,
        "data-parallel traffic": row.links * t.data,
    }


def _bounds(row: Speed, architecture: Architecture, level: float, tables: Path | None) -> tuple[float, float]:
    """Factors from the MFU to its bounds.

    Beyond the measured sizes the table's bounds grow as two independent errors do: their own, and so much a decade.
    """
    if not 0 < level < 1:
        raise UsageError(f"level {level}: a probability, above 0 and below 1")
    n_params = parameters(architecture).total
    least, most = row.n_params
    decades = max(log10(least / n_params), log10(n_params / most), 0.0)
    scale = NormalDist().inv_cdf((1 + level) / 2) / NormalDist().inv_cdf((1 + _LEVEL) / 2)
    beyond = row.per_decade * decades
    other = find("speeds", Speed, "other", extra=tables) if _mixed(architecture) and row.name != "other" else None
    unlike = (1.0, 1.0) if other is None else (other.lo, other.hi)
    lo, hi = (scale * hypot(log(own), beyond, log(more)) for own, more in zip((row.lo, row.hi), unlike, strict=True))
    return exp(-lo), exp(hi)


def _mixed(architecture: Architecture) -> bool:
    return any(isinstance(block.mlp, Experts) for block in transformer(architecture).blocks)


def _around(value: float, lo: float, hi: float, level: float) -> Interval:
    return Interval(value=value, lo=value * lo, hi=value * hi, level=level)


def _one(name: str, values: Any) -> Any:
    found = np.unique(np.asarray(values))
    if found.size != 1:
        raise UsageError(f"speed_sweep: one {name} at a time; got {', '.join(map(str, found[:5]))}")
    return found[0]


def _warnings(row: Speed, device: Device, architecture: Architecture, layout: Layout) -> list[str]:
    said = []
    if row.name == "other":
        said.append(
            f"nobody's steps on {device.name} are in the tables: the speed is that of other devices, its interval "
            "wide. Run `isoflop calibrate` there, or give --mfu"
        )
    n_params, (least, most) = parameters(architecture).total, row.n_params
    if not least <= n_params <= most:
        side = "smaller" if n_params < least else "larger"
        said.append(
            f"a model of {show(n_params, 'parameters')} is {side} than those the speed of {row.name} rests on "
            f"({show(least, 'parameters')} to {show(most, 'parameters')}); the interval is widened for it"
        )
    if _mixed(architecture):
        said.append(
            "no published step of a mixture of experts stands behind its speed: it is counted from its products and "
            "traffic, nothing of which is taken to hide behind computing; the interval is widened for it"
        )
    if layout.devices > device.node_devices and device.network_bytes_per_s is None:
        said.append(
            f"the network of {device.name} is not in the tables: {show(UNKNOWN_NETWORK, 'bytes')}/s a device assumed; "
            "a row of your own with network_bytes_per_s replaces it"
        )
    return said
