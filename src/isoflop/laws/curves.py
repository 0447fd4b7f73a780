"""Training curves: the loss of each run along its tokens, from a table or from our own run folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct

from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.files import read_json, read_lines
from isoflop.laws.law import Array
from isoflop.laws.sheet import cells
from isoflop.laws.table import Dropped, table
from isoflop.specs.architecture import Counts
from isoflop.specs.role import NO_POINT
from isoflop.specs.run import Run

LossKind: TypeAlias = Literal["train", "validation"]
RUN_SPELLINGS = ("run", "run_name", "run_id", "name", "curve", "model")
UNUSABLE = {"diverged", "failed"}
WARMUP = 0.1
BINS_PER_WIDTH = 4  # of the smoothing kernel; finer bins change nothing


class Curve(NamedTuple):
    """One run: its loss at rising tokens.

    Attributes:
        n_tokens, loss_nats, compute_flop: (points,) two or more, tokens and compute rising.
    """

    name: str
    n_params: float
    n_tokens: Array
    loss_nats: Array
    compute_flop: Array


class Curves(NamedTuple):
    """Curves and what was left out on the way to them."""

    curves: tuple[Curve, ...]
    dropped: tuple[Dropped, ...]
    source: str
    counts: Counts
    columns: Mapping[str, str]


class Line(Struct, frozen=True, kw_only=True):
    """One line of a `metrics.jsonl`; its other fields are passed over."""

    step: int
    n_tokens: float
    loss_nats: float | None = None
    validation_loss_nats: float | None = None


def read_curves(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    exclude: str | None = None,
    where: Mapping[str, str] | None = None,
    counts: Counts = "total",
    loss: LossKind = "train",
    skip: float | None = None,
) -> Curves:
    """Curves of a CSV table with a line a point, or of a folder of runs.

    Args:
        columns: as `table` takes them, and `run`, the column that says which curve a line belongs to.
        loss: of our own runs, which curve: of the training batches, or of the validation text.
        skip: share of each run's tokens left out at its start, where the warmup makes every size look alike; None: a
            tenth of our own runs, as long as their warmup may last, and nothing of a table.

    Raises:
        InputError: unreadable, tokens that do not rise, two sizes under one name, no curve of two points.
        UnknownNameError: a column is not there.
        UsageError: a share to skip outside 0 to 1.
    """
    found = (
        _of_folder(path, counts=counts, loss=loss)
        if path.is_dir()
        else _of_table(path, columns=dict(columns or {}), exclude=exclude, where=where or {})
    )
    if skip is not None and not 0 <= skip < 1:
        raise UsageError(f"a share of {skip} of each run cannot be skipped; give one from 0 to below 1")
    if share := (WARMUP if path.is_dir() else 0.0) if skip is None else skip:
        found = _begun(found, share)
    if not found.curves:
        raise InputError(
            f"{path}: no training curve of two points or more ({len(found.dropped)} left out); a table needs a line "
            "for each run and number of tokens"
        )
    return found


def _begun(read: Curves, skip: float) -> Curves:
    """The curves without their first share of tokens."""
    curves: list[Curve] = []
    dropped = list(read.dropped)
    for curve in read.curves:
        late = curve.n_tokens >= skip * curve.n_tokens[-1]
        _keep(Curve(curve.name, curve.n_params, *(values[late] for values in curve[2:])), curves, dropped)
    return read._replace(curves=tuple(curves), dropped=tuple(dropped))


def _of_table(path: Path, *, columns: dict[str, str], exclude: str | None, where: Mapping[str, str]) -> Curves:
    column = columns.pop("run", None)
    read = table(path, columns=columns, exclude=exclude, where=where)
    names = cells(path, [column] if column else RUN_SPELLINGS, read.labels)
    if not names:
        if column:
            raise UnknownNameError("column", column, list(read.columns.values()), advice=f"(in {path})")
        raise InputError(f"{path}: no column says which run a line belongs to; say which with --columns run=NAME")
    column = next(iter(names))
    curves: list[Curve] = []
    dropped = list(read.dropped)
    of_run: dict[str, list[int]] = {}
    for i, name in enumerate(names[column]):
        of_run.setdefault(name.strip(), []).append(i)
    for name, lines in of_run.items():
        places = [f"{path} {read.labels[i]}" for i in lines]
        n = read.n_params[lines]
        if (other := np.abs(np.log(n / n[0])) > 1e-6).any():
            where_ = places[int(other.argmax())]
            raise InputError(
                f"{where_}: run {name!r} has {n[other][0]:.6g} parameters here and {n[0]:.6g} before; two runs under "
                "one name? Say which column names them with --columns run=NAME, or take one subset with --where"
            )
        curve = Curve(name, float(n[0]), read.n_tokens[lines], read.loss_nats[lines], read.compute_flop[lines])
        _rising(curve, places)
        _keep(curve, curves, dropped)
    return Curves(tuple(curves), tuple(dropped), str(path), read.counts, {**read.columns, "run": column})


def _rising(curve: Curve, places: list[str]) -> None:
    for what, values in (("tokens", curve.n_tokens), ("compute", curve.compute_flop)):
        if (falls := np.diff(values) <= 0).any():
            at = int(falls.argmax())
            raise InputError(
                f"{places[at + 1]}: the {what} of run {curve.name!r} do not rise, {values[at]:.6g} before and "
                f"{values[at + 1]:.6g} here; sort the lines, or tell its curves apart (--columns run=NAME, --where)"
            )


def _keep(curve: Curve, curves: list[Curve], dropped: list[Dropped]) -> None:
    if curve.n_tokens.size < 2:
        dropped.append(Dropped(f"run {curve.name}", f"a curve of {curve.n_tokens.size} points; two are needed"))
    else:
        curves.append(curve)


def _of_folder(path: Path, *, counts: Counts, loss: LossKind) -> Curves:
    files = sorted(path.glob("*/run.json"))
    if not files:
        raise InputError(f"{path}: no run.json in its folders; name a folder of runs or a table of curves")
    curves: list[Curve] = []
    dropped: list[Dropped] = []
    ways = set()
    for file in files:
        run = read_json(file, Run)
        if reason := run.status if run.status in UNUSABLE else NO_POINT.get(run.role, ""):
            dropped.append(Dropped(run.id, reason))
            continue
        ways.add(counts if run.parameters else run.counts)
        _keep(_curve(file.parent, run, counts, loss, dropped), curves, dropped)
    if len(ways) > 1:
        raise InputError(f"{path}: N is counted in several ways ({', '.join(sorted(ways))}); take them apart")
    return Curves(tuple(curves), tuple(dropped), str(path), ways.pop() if ways else counts, {})


def _curve(folder: Path, run: Run, counts: Counts, loss: LossKind, dropped: list[Dropped]) -> Curve:
    """The curve of one run folder; a later line of a step, written after a resume, is the one that counts."""
    path = folder / "metrics.jsonl"
    points: dict[int, tuple[float, float]] = {}
    for number, line in enumerate(read_lines(path, Line) if path.exists() else [], 1):
        if (line.validation_loss_nats is None) == (loss == "validation"):
            continue
        value = line.loss_nats if loss == "train" else line.validation_loss_nats
        if value is None or not 0 < value < np.inf or line.n_tokens <= 0:
            dropped.append(Dropped(f"{path} line {number}", "no finite loss"))
        else:
            points[line.step] = (line.n_tokens, value)
    size = float(run.parameters.by(counts)) if run.parameters else run.n_params
    steps = sorted(points)
    tokens, losses = (np.array([points[step][i] for step in steps], dtype=float) for i in (0, 1))
    curve = Curve(run.id, size, tokens, losses, 6 * size * tokens)
    _rising(curve, [f"{path} step {step}" for step in steps])
    return curve


def smoothed(curve: Curve, *, width: float) -> Curve:
    """The curve with its noise averaged out: a local line in log loss against log tokens under a Gaussian.

    Hoffmann et al. smooth along steps. In log tokens the kernel grows with the curve, as the changes that matter do,
    and a local line does not lag behind a falling loss as a local mean would. Points are gathered in bins of a quarter
    of the width first, so that the work does not grow with the square of their number.

    Args:
        width: standard deviation of the Gaussian, in log tokens; 0 leaves the curve as it is.
    """
    if width == 0:
        return curve
    x = np.log(curve.n_tokens)
    bins = np.floor((x - x[-1]) / (width / BINS_PER_WIDTH))
    member = np.unique(bins, return_inverse=True)[1]
    count = np.bincount(member)
    at, log_c, y = (
        np.bincount(member, weights=each) / count for each in (x, np.log(curve.compute_flop), np.log(curve.loss_nats))
    )
    away = at[None, :] - at[:, None]
    weights = count * np.exp(-0.5 * (away / width) ** 2)
    s0, s1, s2 = (np.sum(weights * away**k, axis=1) for k in range(3))
    t0, t1 = weights @ y, (weights * away) @ y
    spread = s0 * s2 - s1**2
    lonely = spread <= 1e-3 * (s0 * width) ** 2  # one bin has all the weight: there is no line to fit
    line = (s2 * t0 - s1 * t1) / np.where(lonely, 1.0, spread)
    return Curve(curve.name, curve.n_params, np.exp(at), np.exp(np.where(lonely, t0 / s0, line)), np.exp(log_c))
