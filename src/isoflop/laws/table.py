"""The runs a law is fitted to, read from whatever holds them; nothing is dropped or guessed in silence."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isoflop.errors import FitError, InputError, UsageError
from isoflop.files import read_json, read_lines, sha256_file
from isoflop.laws import sheet
from isoflop.laws.columns import EXTRAS, SPELLINGS, chosen_columns, known_column
from isoflop.laws.law import Array
from isoflop.laws.sheet import Sheet
from isoflop.specs.architecture import Counts
from isoflop.specs.encoder_decoder import EncoderDecoder
from isoflop.specs.role import NO_POINT
from isoflop.specs.run import Run

# Nothing real lies outside; a size of 0.4 is one in billions, a loss of 1e300 a run that burst.
_LIMITS = {"N": (1.0, 1e24), "D": (1.0, 1e24), "C": (1.0, 1e48), "loss": (0.0, 1e4)}
_MISSING = {"", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "none", "null"}
_FALSE = _MISSING | {"0", "0.0", "false", "f", "no", "n"}
_TRUE = {"1", "1.0", "true", "t", "yes", "y", "x"}

_EXPORTED = {"key", "status", "validation", "tokenizer_sha256"}
"""Columns by which a table is known as one that `isoflop runs export` wrote."""


class Dropped(NamedTuple):
    """A run that was left out, and why."""

    where: str
    reason: str


class RunTable(NamedTuple):
    """Runs as the solver wants them.

    Attributes:
        n_params, n_tokens, loss_nats, compute_flop: (runs,) all positive and finite.
        labels: a name for each run, for messages.
        counts: which parameters N counts, where the source says.
        dropped: runs left out, with the reason.
        columns: which column was read as what.
        source: where they come from.
        sha256: of the file; empty for arrays.
        extras: (runs,) further columns by name, NaN where a run does not say; see `EXTRAS`.
        weights: (runs,) how much each run counts in a fit; None where all count alike.
        groups: a name for each run; runs of one name are resampled together. Empty where each stands alone.
    """

    n_params: Array
    n_tokens: Array
    loss_nats: Array
    compute_flop: Array
    labels: tuple[str, ...]
    counts: Counts = "unknown"
    dropped: tuple[Dropped, ...] = ()
    columns: Mapping[str, str] = {}
    source: str = "arrays"
    sha256: str = ""
    extras: Mapping[str, Array] = {}
    weights: Array | None = None
    groups: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.labels)

    def given(self, names: Sequence[str]) -> dict[str, Array]:
        """The extra columns that a law reads.

        Raises:
            InputError: a column is missing, or a run has no positive value in it.
        """
        for name in names:
            if name not in self.extras:
                raise InputError(f"{self.source}: this law reads {name}; say which column with --columns {name}=NAME")
            bad = ~(np.isfinite(self.extras[name]) & (self.extras[name] > 0))
            if bad.any():
                raise InputError(f"{self.source} {self.labels[int(bad.argmax())]}: no positive number for {name}")
        return {name: self.extras[name] for name in names}

    def only(self, keep: np.ndarray, *, reason: str = "") -> "RunTable":
        """The runs where `keep` is true; the others are recorded as dropped when a reason is given."""
        out = tuple(Dropped(label, reason) for label, kept in zip(self.labels, keep, strict=True) if not kept)
        return self._replace(
            n_params=self.n_params[keep],
            n_tokens=self.n_tokens[keep],
            loss_nats=self.loss_nats[keep],
            compute_flop=self.compute_flop[keep],
            weights=None if self.weights is None else self.weights[keep],
            groups=tuple(group for group, kept in zip(self.groups, keep, strict=False) if kept),
            labels=tuple(label for label, kept in zip(self.labels, keep, strict=True) if kept),
            dropped=self.dropped + (out if reason else ()),
            extras={name: values[keep] for name, values in self.extras.items()},
        )


class Reading(NamedTuple):
    """How runs are read: which columns are what, and which rows are taken.

    Attributes:
        columns: names of the columns for N, D, loss and C, where they cannot be guessed.
        exclude: a column; rows where it is true are left out, and counted.
        where: column -> value; only rows that match are read.
        counts: which N of our own runs to take.
        max_flop: runs dearer than this are left out, and counted.
        weights: the column that says how much each run counts.
        need_loss: False keeps runs whose loss is not known, as NaN: a law may predict what it cannot be fitted to.
    """

    columns: Mapping[str, str] = {}
    exclude: str | None = None
    where: Mapping[str, str] = {}
    counts: Counts = "total"
    max_flop: float | None = None
    weights: str | None = None
    need_loss: bool = True


def table(
    runs: Any,
    *,
    columns: Mapping[str, str] | None = None,
    exclude: str | None = None,
    where: Mapping[str, str] | None = None,
    counts: Counts = "total",
    max_flop: float | None = None,
    weights: str | None = None,
    need_loss: bool = True,
) -> RunTable:
    """Read runs from a path, a list of `Run`, a dict of arrays, or a pandas or polars frame.

    Args:
        runs: the runs, or the path of a CSV, a `.jsonl` of runs, a `run.json`, or a folder that holds them.
        columns, exclude, where, counts, max_flop, weights, need_loss: see `Reading`.

    Raises:
        InputError: unreadable; the message names file, line and column.
        UnknownNameError: a column is not there.
        UsageError: an option that these runs cannot follow.
    """
    how = Reading(columns or {}, exclude, where or {}, counts, max_flop, weights, need_loss)
    if max_flop is not None and not 0 < max_flop < math.inf:
        raise UsageError(f"max_flop {max_flop:g}: must be positive and finite")
    if isinstance(runs, str | Path):
        found = _of_path(Path(runs), how)
    elif isinstance(runs, Sequence) and all(isinstance(run, Run) for run in runs):
        found = of_runs(runs, counts=counts, need_loss=need_loss)
    else:
        found = _of_sheet(sheet.of_columns(runs), how)
    if max_flop is None:
        return found
    return found.only(found.compute_flop <= max_flop, reason=f"dearer than {max_flop:g} FLOP")


def of_runs(runs: Sequence[Run], *, counts: Counts = "total", source: str = "runs", need_loss: bool = True) -> RunTable:
    """Our own runs; unfinished, diverged and kept-out ones are left out and recorded, where a loss is needed."""
    kept, dropped = [], []
    for run in runs:
        reason = _unfit(run)
        if reason and need_loss:
            dropped.append(Dropped(run.id, reason))
        else:
            kept.append(run)
    said = _counted(kept, counts=counts, source=source)
    validations, tokenizers = ({getattr(run, name) for run in kept} for name in ("validation", "tokenizer_sha256"))
    _comparable(validations - {None}, tokenizers - {None}, source=source)
    n, d, c = [], [], []
    unique = np.array([run.unique_tokens or math.nan for run in kept])
    bits = np.array([run.bits_per_byte or math.nan for run in kept])
    for run in kept:
        size = float(run.parameters.by(counts)) if run.parameters else run.n_params
        told = None if run.parameters and not _two_stacks(run) else run.compute_flop
        work = 6 * size * run.n_tokens if told is None else told
        for name, value in (("n_params", size), ("n_tokens", run.n_tokens), ("compute_flop", work)):
            if not 0 < value < math.inf:
                raise InputError(f"{source}: run {run.id}: {name} is {value:g}; it must be positive and finite")
        n.append(size)
        d.append(run.n_tokens)
        c.append(work)
    loss = [run.loss_nats if run.loss_nats and run.status == "finished" else math.nan for run in kept]
    return _arrays(n, d, loss, c, [run.id for run in kept])._replace(
        counts=said, dropped=tuple(dropped), source=source, extras={"unique_tokens": unique, "bits_per_byte": bits}
    )


def _two_stacks(run: Run) -> bool:
    """A token passes one of them only, so that its work is no 6 N."""
    return isinstance(run.architecture, EncoderDecoder)


def _counted(runs: Sequence[Run], *, counts: Counts, source: str) -> Counts:
    """What N of these runs counts; runs that know their parameters by kind give what is asked for."""
    fixed = {run.counts for run in runs if not run.parameters}
    ways = fixed | ({counts} if any(run.parameters for run in runs) else set())
    if len(ways) > 1:
        raise InputError(f"{source}: N is counted in several ways ({', '.join(sorted(ways))}); fit them apart")
    if fixed and counts != "total" and counts not in fixed:
        raise UsageError(f"{source}: these runs count {fixed.pop()} parameters and do not know the {counts} ones")
    return ways.pop() if ways else counts


def _comparable(validations: Collection[str | None], tokenizers: Collection[str | None], *, source: str) -> None:
    """Losses per token can be compared on one text in one vocabulary only."""
    for name, values in (("tokenizers", tokenizers), ("validation texts or objectives", validations)):
        if len(values) > 1:
            raise InputError(
                f"{source}: losses measured with {len(values)} different {name} cannot be compared; fit them apart"
            )


def _unfit(run: Run) -> str:
    if run.role in NO_POINT:
        return NO_POINT[run.role]
    if run.status != "finished":
        return f"{run.status}{': ' + run.note if run.note else ''}"
    if run.loss_nats is None or not math.isfinite(run.loss_nats) or run.loss_nats <= 0:
        return "no finite loss"
    if run.origin is not None and not run.origin.fresh:
        return f"continued from {run.origin.run}: its tokens are not of one run"
    return ""


def _unfit_row(row: Mapping[str, str]) -> str:
    """As `_unfit`, of a row that `isoflop runs export` wrote."""
    if (role := row.get("role", "")) in NO_POINT:
        return NO_POINT[role]
    if row["status"] != "finished":
        return row["status"]
    if row.get("origin.fresh", "").casefold() == "false":
        return f"continued from {row['origin.run']}: its tokens are not of one run"
    return ""


def _of_path(path: Path, how: Reading) -> RunTable:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".gz" and Path(path.stem).suffix in {".json", ".jsonl"}:
        raise InputError(f"{path}: runs of isoflop are read unpacked only; gunzip it first")
    if not sheet.holds_runs(path):
        if how.counts != "total":
            raise UsageError(f"{path}: a table has one N; which parameters to count is chosen for runs of isoflop only")
        return _of_sheet(sheet.of_file(path), how)
    if how.columns or how.exclude or how.where or how.weights:
        raise UsageError(f"{path}: columns are chosen in CSV tables only; runs of isoflop have theirs by name")
    if path.is_dir():
        files = sorted(path.glob("*/run.json"))
        if not files:
            raise InputError(f"{path}: no run.json in its folders; name a folder of runs or a table")
        runs = [read_json(file, Run) for file in files]
        return of_runs(runs, counts=how.counts, source=str(path), need_loss=how.need_loss)
    runs = read_lines(path, Run) if path.suffix == ".jsonl" else [read_json(path, Run)]
    if not runs:
        raise InputError(f"{path}: no runs in it")
    found = of_runs(runs, counts=how.counts, source=str(path), need_loss=how.need_loss)
    return found._replace(sha256=sha256_file(path))


def _of_sheet(cells: Sheet, how: Reading) -> RunTable:
    source = cells.source
    taken = chosen_columns(cells.names, how.columns, source=source, need_loss=how.need_loss)
    for wanted in filter(None, (how.exclude, how.weights, *how.where)):
        known_column(wanted, cells.names, source=source)
    values: dict[str, list[float]] = {kind: [] for kind in (*taken, "weights")}
    labels, dropped, matched = [], [], not how.where
    ours = set(cells.names) >= _EXPORTED
    validations: set[str | None] = set()
    tokenizers: set[str | None] = set()
    for row, place in zip(cells.rows, cells.places, strict=True):
        if any(row[column].strip() != value for column, value in how.where.items()):
            continue
        matched = True
        reason = _unfit_row(row) if ours and how.need_loss else ""
        if reason := reason or _left_out(row, how, taken.get("loss"), f"{source} {place}"):
            dropped.append(Dropped(place, reason))
            continue
        for kind, column in taken.items():
            values[kind].append(_value(kind, row[column], f"{source} {place}, column {column}", "D" in taken))
        if how.weights:
            at = f"{source} {place}, column {how.weights}"
            values["weights"].append(sheet.number(row[how.weights], at, least=0.0))
        labels.append(place)
        if ours:
            validations.add(row["validation"])
            tokenizers.add(row["tokenizer_sha256"])
    _comparable(validations - {""}, tokenizers - {""}, source=source)
    if not matched:
        raise InputError(f"{source}: no row has {' and '.join(f'{name}={value}' for name, value in how.where.items())}")
    tokens = values["D"] if "D" in taken else [c / (6 * n) for c, n in zip(values["C"], values["N"], strict=True)]
    loss = values["loss"] if "loss" in taken else [math.nan] * len(labels)
    said = {*SPELLINGS, *how.columns}
    return _arrays(values["N"], tokens, loss, values.get("C"), labels)._replace(
        dropped=tuple(dropped),
        columns={kind: column for kind, column in taken.items() if kind in said},
        source=source,
        sha256=cells.sha256,
        extras={kind: np.array(values[kind], dtype=float) for kind in EXTRAS if kind in taken},
        weights=np.array(values["weights"]) if how.weights else None,
    )


def _value(kind: str, cell: str, place: str, tokens_said: bool) -> float:
    """What a cell says of this quantity; NaN where it may be silent and is."""
    if kind in EXTRAS:
        return sheet.loose(cell)
    silent = (kind == "C" and tokens_said and not cell.strip()) or (kind == "loss" and _no_loss(cell) != "")
    if silent:
        return math.nan
    least, most = _LIMITS[kind]
    return sheet.number(cell, place, least=least or None, most=most)


def _left_out(row: Mapping[str, str], how: Reading, loss: str | None, place: str) -> str:
    """Why this row is not a run to fit; empty where it is one."""
    if how.exclude:
        said = row[how.exclude].strip().casefold()
        if said in _TRUE:
            return f"excluded by {how.exclude}"
        if said not in _FALSE:
            raise InputError(f"{place}, column {how.exclude}: {row[how.exclude]!r} is neither true nor false")
    return _no_loss(row[loss]) if loss and how.need_loss else ""


def _no_loss(cell: str) -> str:
    """Why this cell holds no loss; empty where it holds one, or something that is no number."""
    said = cell.strip().casefold()
    if said in _MISSING:
        return "no loss"
    return "no finite loss" if said.lstrip("+-") in {"inf", "infinity"} else ""


def _arrays(
    n: Sequence[float], d: Sequence[float], loss: Sequence[float], c: Sequence[float] | None, labels: Sequence[str]
) -> RunTable:
    n_params, n_tokens = np.array(n, dtype=float), np.array(d, dtype=float)
    compute = 6 * n_params * n_tokens
    if c is not None:
        compute = np.where(np.isnan(c), compute, c)
    return RunTable(n_params, n_tokens, np.array(loss, dtype=float), compute, tuple(labels))


def need(runs: RunTable, *, coefficients: int) -> None:
    """Refuse to fit more than the runs can carry.

    Raises:
        FitError: fewer runs than coefficients and one, or all of one size or one length.
    """
    if runs.size < coefficients + 1:
        raise FitError(
            f"{runs.source}: {coefficients} coefficients need at least {coefficients + 1} runs; got {runs.size}"
            f"{f' ({len(runs.dropped)} left out)' if runs.dropped else ''}. Add rungs: `isoflop ladder`"
        )
    for name, values in (("model size", runs.n_params), ("number of tokens", runs.n_tokens)):
        if np.ptp(np.log(values)) < 0.05:
            raise FitError(f"{runs.source}: all runs have one {name}; its exponent cannot be told. Vary it")
