"""A recipe as people write it: a TOML file and `--set a.b=c`, read strictly; and written again."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import tomli_w

from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.specs.data import Data
from isoflop.specs.recipe import Recipe

_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.?(.*)`)?")
_AT = re.compile(r"(.*) - at `\$\.?(.*)`")
_EXAMPLE = "optimizer.learning_rate=0.003"


def load(path: Path, *, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file; nothing in it may be unknown.
        settings: "key=value" each, applied in order, the key with dots for tables, the value as TOML writes it; quotes
            around text may be left out. In a list of tables one is called by its name, or its number from 0.

    Raises:
        InputError: no such file.
        UsageError: not TOML, an unknown key (the nearest one is named), a missing one, or a wrong type or value.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; recipes/tiny.toml is one to begin with") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    for setting in settings:
        put(content, setting, example=_EXAMPLE)
    return parse(content, where=str(path))


def parse(content: Mapping[str, Any], *, where: str) -> Recipe:
    """Turn plain data into a recipe.

    Raises:
        UsageError: as `load`; the message begins with `where`.
    """
    if isinstance(model := content.get("model"), dict):
        content = {**content, "model": {"family": "decoder", **model}}
    for key, known in _unknown(content, Recipe):
        elsewhere = [path for path in _paths(content, Recipe) if path.rpartition(".")[2] == key.rpartition(".")[2]]
        raise UnknownNameError(f"key in {where}", key, elsewhere or known)
    for name, value, choices in _unheard(content, Recipe):
        raise UnknownNameError(f"{name} in {where}", value, choices, every=True)
    for key, number in _endless(content):
        raise UsageError(f"{where}: {key} is {number}; the whole numbers of TOML end at 9.2e18")
    if not ("shards" in content or (isinstance(data := content.get("data"), dict) and data.get("sources"))):
        raise UsageError(f"{where}: shards is missing; or name several in [[data.sources]]")
    try:
        return msgspec.convert(content, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_explain(str(error))}") from error


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with these settings, written as for `load`.

    Raises:
        UsageError: as `load`.
    """
    content = msgspec.to_builtins(recipe)
    for setting in settings:
        put(content, setting, example=_EXAMPLE)
    return parse(content, where="--set")


def written(recipe: Recipe) -> str:
    """The recipe as TOML, which has no null: what is left to a rule stays unsaid."""
    content = _without_none(msgspec.to_builtins(recipe))
    content.pop("shards" if recipe.data.sources else "data" if recipe.data == Data() else "", None)
    return tomli_w.dumps(content)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


def put(content: dict[str, Any], setting: str, *, example: str) -> None:
    """Put one "a.b=c" into the content of a TOML file.

    Args:
        example: of a setting, for the error.

    Raises:
        UsageError: no key or no "=", or a table's name is a value's.
    """
    key, equals, text = setting.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise UsageError(f"--set {setting!r}: write key=value, for example --set {example}")
    table: Any = content
    for name in names[:-1]:
        table = _entry(table, name, setting) if isinstance(table, list | tuple) else table.setdefault(name, {})
        if not isinstance(table, dict | list | tuple):
            raise UsageError(f"--set {setting!r}: {name} is a value, not a table")
    if isinstance(table, list | tuple):
        raise UsageError(f"--set {setting!r}: {names[-2]} is a list of tables; say a key of one, by its name or number")
    table[names[-1]] = _value(text.strip())


def _entry(tables: Sequence[Any], name: str, setting: str) -> Any:
    """The table of this name or number in a list of them.

    Raises:
        UnknownNameError: there is none.
    """
    there = {place.removeprefix("."): one for place, one in _each(tables)}
    if name not in there:
        raise UnknownNameError(f"table in --set {setting!r}", name, there)
    return there[name]


def _value(text: str) -> Any:
    """A TOML value; what is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _unknown(content: Mapping[str, Any], kind: type[msgspec.Struct], at: str = "") -> Iterator[tuple[str, list[str]]]:
    """Keys no field of `kind` answers to, with those that exist beside them, both from the root."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    tag = kind.__struct_config__.tag_field
    for name, value in content.items():
        if name in fields:
            for place, inside in _each(value):
                if table := _meant(inside, _tables(fields[name])):
                    yield from _unknown(inside, table, f"{at}{name}{place}.")
        elif name != tag:
            yield f"{at}{name}", [f"{at}{known}" for known in (*fields, tag) if known]


def _paths(content: Mapping[str, Any], kind: type[msgspec.Struct], at: str = "") -> Iterator[str]:
    """Every key that a recipe may have, with the tables it lies in."""
    for field in msgspec.structs.fields(kind):
        yield f"{at}{field.encode_name}"
        value = content.get(field.encode_name)
        for place, inside in _each(value) or [("", {})]:
            if table := _meant(inside, _tables(field.type)):
                yield from _paths(inside, table, f"{at}{field.encode_name}{place}.")


def _unheard(
    content: Mapping[str, Any], kind: type[msgspec.Struct], at: str = ""
) -> Iterator[tuple[str, str, list[str]]]:
    """Names given where the field knows a few, with those that it knows; None and other kinds of value pass."""
    for field in msgspec.structs.fields(kind):
        value, name = content.get(field.encode_name), f"{at}{field.encode_name}"
        tables = _tables(field.type)
        for place, inside in _each(value) if tables else ():
            if (table := _meant(inside, tables)) is not None:
                yield from _unheard(inside, table, f"{name}{place}.")
            else:
                yield from _untold(inside, tables, f"{name}{place}.")
        choices = [each for each in _leaves(field.type) if isinstance(each, str)]
        if isinstance(value, str) and choices and value not in choices:
            yield name, value, choices


def _endless(content: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers beyond 64 bits, which Python would carry on to where nothing takes them."""
    for name, value in content.items():
        for place, inside in _each(value):
            yield from _endless(inside, f"{at}{name}{place}.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield f"{at}{name}", value


def _each(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The tables in a value, one or a list of them, each with its place behind the key: "", or its name or number."""
    if isinstance(value, dict):
        return [("", value)]
    tables = (
        [(i, one) for i, one in enumerate(value) if isinstance(one, dict)] if isinstance(value, list | tuple) else []
    )
    return [(f".{one.get('name', i)}", one) for i, one in tables]


def _tables(kind: Any) -> list[type[msgspec.Struct]]:
    """The kinds of table that a field takes: one, or several that a name in them tells apart."""
    inner = [one for one in get_args(kind) or (kind,) if isinstance(one, type)]
    return [one for one in inner if issubclass(one, msgspec.Struct)]


def _meant(content: Mapping[str, Any], tables: Sequence[type[msgspec.Struct]]) -> type[msgspec.Struct] | None:
    """The only one, or the one that the content names."""
    if len(tables) == 1:
        return tables[0]
    told = (one for one in tables if content.get(one.__struct_config__.tag_field or "") == one.__struct_config__.tag)
    return next(told, None)


def _untold(
    content: Mapping[str, Any], tables: Sequence[type[msgspec.Struct]], at: str
) -> Iterator[tuple[str, str, list[str]]]:
    """The name of no such table, with those that there are; none given is left to msgspec."""
    field = str(tables[0].__struct_config__.tag_field)
    if isinstance(value := content.get(field), str):
        yield f"{at}{field}", value, [str(one.__struct_config__.tag) for one in tables]


def _leaves(kind: Any) -> list[Any]:
    """The values of a Literal, also of one that may be None; of other types nothing that is text."""
    return [leaf for each in get_args(kind) for leaf in (_leaves(each) or [each])]


def _explain(message: str) -> str:
    """Msgspec's message with the key in front, in the words of a recipe."""
    if missing := _MISSING.fullmatch(message):
        return f"{'.'.join(part for part in (missing[2], missing[1]) if part)} is missing"
    if placed := _AT.fullmatch(message):
        message = placed[1] if placed[1].startswith(("recipe:", "architecture:")) else f"{placed[2]}: {placed[1]}"
    message = message.replace("`", "").replace("Expected", "expected").replace(" | null", "")
    return re.sub(r"\bobject\b", "table", message)
