"""Runs that differ in their mixture, read from CSV tables: shares of the domains, and a loss or several.

One table may hold both, or one the shares and another the losses, joined by a column that both have, as RegMix
publishes them. Columns with "loss" in their name are losses. Shares are the columns that begin with "share ", as we
write them, or, where none does, all others that hold numbers but for the one that names the run. A column of text is
passed over.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isoflop.errors import InputError, UsageError
from isoflop.files import sha256_value
from isoflop.laws import sheet
from isoflop.laws.law import Array
from isoflop.laws.mixture import ROUNDING
from isoflop.laws.sheet import Sheet

SHARE, LOSS = "share ", "loss "
"""How our own tables begin the names of their columns."""
_KEYS = ("index", "run", "run_id", "id", "name", "hash", "mixture", "")
_NOTHING = {"", "nan", "na", "n/a", "none", "null", "inf", "-inf"}


class MixtureTable(NamedTuple):
    """Runs as the law of mixtures wants them.

    Attributes:
        shares_RD: of each run; rows sum to one, within rounding.
        losses_RT: nats per token.
        labels: a name for each run.
        dropped: runs left out, each with the reason.
        sha256: of all files together.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    shares_RD: Array
    losses_RT: Array
    labels: tuple[str, ...]
    dropped: tuple[str, ...]
    source: str
    sha256: str


def read(paths: Sequence[Path]) -> MixtureTable:
    """One or two tables.

    Raises:
        InputError: not such tables; the message names file, line and column.
        UsageError: more than two.
    """
    if not 1 <= len(paths) <= 2:
        raise UsageError(f"{len(paths)} tables of runs; give one, or one of shares and one of losses")
    sheets = [sheet.of_file(path) for path in paths]
    joined = sheets[0] if len(sheets) == 1 else _joined(*sheets)
    key = _key(joined)
    losses = [name for name in joined.names if "loss" in name.lower() and name != key]
    own = [name for name in joined.names if name.startswith(SHARE)]
    domains = own or [n for n in joined.names if n != key and n not in losses and _holds_numbers(joined, n)]
    if len(domains) < 2:
        raise InputError(f"{joined.source}: {len(domains)} columns of shares; a mixture has two at least")
    if not losses:
        raise InputError(f'{joined.source}: no column has "loss" in its name; give the table of losses with it')
    rows = [_row(joined, i, domains, losses) for i in range(len(joined.rows))]
    kept = [i for i, row in enumerate(rows) if not isinstance(row, str)]
    labels = [joined.rows[i][key] if key else joined.places[i] for i in range(len(rows))]
    taken = np.array([rows[i] for i in kept], dtype=float).reshape(len(kept), -1)
    return MixtureTable(
        domains=tuple(name.removeprefix(SHARE) for name in domains),
        targets=tuple(name.removeprefix(LOSS) for name in losses),
        shares_RD=taken[:, : len(domains)],
        losses_RT=taken[:, len(domains) :],
        labels=tuple(labels[i] for i in kept),
        dropped=tuple(f"{labels[i]}: {row}" for i, row in enumerate(rows) if isinstance(row, str)),
        source=joined.source,
        sha256=sha256_value([each.sha256 for each in sheets]),
    )


def _joined(first: Sheet, second: Sheet) -> Sheet:
    """Both tables as one, by the first column that both have.

    Raises:
        InputError: they share no column, or a run stands twice or in one of them only.
    """
    common = [name for name in first.names if name in second.names]
    if not common:
        raise InputError(f"{first.source} and {second.source}: no column is in both, such as an index of the runs")
    key, where = common[0], f"{first.source} and {second.source}"
    other = {row[key]: row for row in second.rows}
    own = {row[key] for row in first.rows}
    if len(other) < len(second.rows) or len(own) < len(first.rows):
        raise InputError(f"{where}: a run stands twice in column {key!r}")
    if lone := sorted(own ^ set(other)):
        raise InputError(f"{where}: {len(lone)} runs are in one of them only, such as {key} {lone[0]!r}")
    return Sheet(
        list(dict.fromkeys([*first.names, *second.names])),
        [{**other[row[key]], **row} for row in first.rows],
        [f"{key} {row[key]}" for row in first.rows],
        where,
    )


def _key(table: Sheet) -> str | None:
    """The column that names the run: the first one, where it is called so."""
    return table.names[0] if table.names and table.names[0].lower() in _KEYS else None


def _holds_numbers(table: Sheet, name: str) -> bool:
    return any(_number(row[name]) is not None for row in table.rows)


def _row(table: Sheet, place: int, domains: Sequence[str], losses: Sequence[str]) -> list[float] | str:
    """Shares and losses of a run, or why it has none.

    Raises:
        InputError: a cell that is no number, or shares that do not sum to one.
    """
    found = []
    for name in (*domains, *losses):
        cell, where = table.rows[place][name], f"{table.source} {table.places[place]}, column {name}"
        value = _number(cell)
        if value is None:
            if cell.strip().lower() not in _NOTHING:
                raise InputError(f"{where}: {cell!r} is not a number")
            if name in losses:
                return f"no {name}"
            raise InputError(f"{where}: a share is missing")
        if value < 0:
            raise InputError(f"{where}: {cell} is negative")
        found.append(value)
    if abs(total := sum(found[: len(domains)]) - 1) > ROUNDING:
        raise InputError(
            f"{table.source} {table.places[place]}: shares sum to {total + 1:.4g} and not to 1. They are read from "
            f"{', '.join(domains[:4])}{', ...' if len(domains) > 4 else ''}"
        )
    return found


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def matching(table: MixtureTable, other: MixtureTable) -> MixtureTable:
    """The table with domains and losses in the order of another.

    Raises:
        InputError: it lacks one of them.
    """
    for kind in ("domains", "targets"):
        if lacking := set(getattr(other, kind)) - set(getattr(table, kind)):
            raise InputError(f"{table.source}: no column of {kind[:-1]} {min(lacking)!r}, which the law knows")
    shares = table.shares_RD[:, [table.domains.index(name) for name in other.domains]]
    losses = table.losses_RT[:, [table.targets.index(name) for name in other.targets]]
    return table._replace(domains=other.domains, targets=other.targets, shares_RD=shares, losses_RT=losses)
