"""Facts as rows: devices, prices, grids, throughput, published models and laws, each with its source and date.

`<table>.toml` here holds the rows, one TOML table by key; a `source` at the top of the file is that of every row
without its own. Rows that `isoflop calibrate` measured on this machine join them. A user's file, given by `--tables` or
`$ISOFLOP_TABLES`, adds rows or replaces them, for example `[devices.my-chip]`.
"""

import os
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from isoflop.errors import UnknownNameError, UsageError

Row = TypeVar("Row", bound=msgspec.Struct)

NAMES = (
    "devices", "prices", "grids", "throughput", "facilities", "models", "laws", "relations", "tasks", "claims",
    "margins", "speeds", "reliability", "launchers", "apis", "adaptations", "advice", "open_models", "engines",
    "vocabularies",
)  # fmt: skip


def rows(table: str, kind: type[Row], *, extra: Path | None = None) -> dict[str, Row]:
    """All rows of a table by key: those of the package, under this machine's own, under the user's file.

    Args:
        table: one of `NAMES`.
        kind: type of a row; a field `name` takes the row's key.
        extra: the user's file; None takes `$ISOFLOP_TABLES`, where it is set.

    Raises:
        UsageError: the user's file is missing, is not TOML, or a row of it has wrong fields.
    """
    shipped = files(__name__).joinpath(f"{table}.toml")
    found = _typed(tomllib.loads(shipped.read_text()), kind, where=f"{table}.toml")
    if (own := own_path()).is_file():
        found |= _typed(_sections(own).get(table, {}), kind, where=f"{own}, {table}")
    if extra is None and os.environ.get("ISOFLOP_TABLES"):
        extra = Path(os.environ["ISOFLOP_TABLES"])
    if extra is not None:
        found |= _typed(_sections(extra).get(table, {}), kind, where=f"{extra}, {table}")
    return found


def own_path() -> Path:
    """Where `isoflop calibrate` writes this machine's rows, and every table finds them."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "isoflop" / "calibrated.toml"


def find(table: str, kind: type[Row], name: str, *, extra: Path | None = None) -> Row:
    """The row of that key or alias; upper and lower case are the same, nothing else is guessed.

    Raises:
        UnknownNameError: nothing is called so; the message proposes the nearest names and says how to add a row.
        UsageError: the user's file cannot be read.
    """
    by_key = rows(table, kind, extra=extra)
    if (row := called(name, by_key)) is not None:
        return row
    names = [*by_key, *(alias for each in by_key.values() for alias in _aliases(each))]
    advice = f"(or add your own row, `[{table}.NAME]`, to a file given by --tables)"
    raise UnknownNameError(table.removesuffix("s"), name, names, advice=advice)


def called(name: str, by_key: dict[str, Row]) -> Row | None:
    """The row of that key or alias, or None; a key goes before an alias, a later row before an earlier one."""
    folded = name.casefold()
    by_alias = {alias.casefold(): row for row in by_key.values() for alias in _aliases(row)}
    return {key.casefold(): row for key, row in by_key.items()}.get(folded, by_alias.get(folded))


def _aliases(row: msgspec.Struct) -> list[str]:
    return getattr(row, "aliases", [])


def _sections(path: Path) -> dict[str, Any]:
    """A user's file, its sections named after the tables."""
    try:
        read = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file of table rows") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: not readable as TOML: {error}") from error
    for section, content in read.items():
        if section not in NAMES:
            raise UnknownNameError(f"table in {path}", section, NAMES)
        if not isinstance(content, dict):
            raise UsageError(f"{path}: {section} must hold rows, `[{section}.NAME]`")
    return read


def _typed(raw: dict[str, Any], kind: type[Row], *, where: str) -> dict[str, Row]:
    source = raw.get("source")
    named = any(field.name == "name" for field in msgspec.structs.fields(kind))
    found = {}
    for key, fields in raw.items():
        if key == "source" and isinstance(fields, str):
            continue
        if not isinstance(fields, dict):
            raise UsageError(f"{where}: {key} is not a row; write `[{key}]` and its fields below")
        defaults = {} if source is None else {"source": source}
        try:
            found[key] = msgspec.convert({**defaults, **fields, **({"name": key} if named else {})}, kind)
        except msgspec.ValidationError as error:
            raise UsageError(f"{where}, row {key}: {error}") from error
    return found
