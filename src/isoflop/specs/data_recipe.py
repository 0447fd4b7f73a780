"""What `isoflop data run` is to do: sources, stages and limits, as people write them in a TOML file, read strictly."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from isoflop.errors import InputError, UnknownNameError, UsageError

Kind: TypeAlias = Literal["warc", "html", "text", "jsonl", "parquet"]


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where documents come from.

    Attributes:
        path: a file, a folder, a pattern with `*`, or a URL that fsspec knows; a relative one lies beside the recipe.
        name: stands in each document and in the report; the path where none is given.
        kind: how to read it; "" goes by each file's suffix.
        text, id: columns of JSON Lines and Parquet.
    """

    path: str
    name: str = ""
    kind: Kind | Literal[""] = ""
    text: str = "text"
    id: str = "id"

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is empty; name a file, a folder or a URL")


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one document and one shard may be. Bytes and nodes, never seconds: a busy machine changes no byte.

    Attributes:
        document_bytes: a longer document, page or line is dropped; also what a packed one may unpack to.
        nodes: elements of a page; a page with more is dropped. A node takes about 400 bytes while it is parsed.
        shard_bytes: a shard is closed when its documents reach this.
        unpacked_bytes: how much of an oversized packed record is unpacked in search of its end, and the largest row
            group of Parquet.
    """

    document_bytes: int = 10_000_000
    nodes: int = 200_000
    shard_bytes: int = 64_000_000
    unpacked_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")


class Stage(Struct, frozen=True, kw_only=True):
    """One step by name, and its options as that stage reads them.

    Attributes:
        sources: names of the sources whose documents it may change or drop; all where none is named.
    """

    name: str
    sources: tuple[str, ...] = ()
    options: dict[str, Any] = {}


class DataRecipe(Struct, frozen=True, kw_only=True):
    """A whole pipeline.

    Attributes:
        folder: what relative paths start from.
    """

    sources: tuple[Source, ...]
    stages: tuple[Stage, ...] = ()
    limits: Limits = Limits()
    folder: str = "."


_TABLES = ("source", "stage", "limits")


def load(path: Path) -> DataRecipe:
    """Read a recipe.

    Raises:
        InputError: no such file.
        UsageError: not TOML, an unknown key (the nearest one is named), a missing one, or a wrong type or value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    return parse(content, where=str(path), folder=str(path.resolve().parent))


def parse(content: Mapping[str, Any], *, where: str, folder: str) -> DataRecipe:
    """Turn plain data into a recipe.

    Raises:
        UsageError: as `load`; the message begins with `where`.
    """
    for key in content:
        if key not in _TABLES:
            raise UnknownNameError(f"table in {where}", key, _TABLES)
    sources = tuple(_structs(content, "source", Source, where))
    if not sources:
        raise UsageError(f"{where}: no [[source]]; name at least one, with a path")
    limits = _struct(content.get("limits", {}), Limits, f"{where}: [limits]")
    names = [source.name or source.path for source in sources]
    stages = tuple(_stage(table, names, at) for table, at in _listed(content, "stage", where))
    return DataRecipe(sources=sources, stages=stages, limits=limits, folder=folder)


def _listed(content: Mapping[str, Any], name: str, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The tables of [[name]] with the words that tell each."""
    tables = content.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{where}: write [[{name}]] with double brackets, once for each {name}")
    for number, table in enumerate(tables, 1):
        yield table, f"{where}: [[{name}]] number {number}"


def _structs(content: Mapping[str, Any], name: str, kind: type[Source], where: str) -> Iterator[Source]:
    for table, at in _listed(content, name, where):
        yield _struct(table, kind, at)


def _struct(table: Any, kind: type[Any], at: str) -> Any:
    return options(table, kind, where=at)


def _stage(table: dict[str, Any], sources: Sequence[str], at: str) -> Stage:
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(f'{at}: name is missing, e.g. name = "length"')
    own = {key: table[key] for key in ("name", "sources") if key in table}
    rest = {key: value for key, value in table.items() if key not in own}
    stage: Stage = options({**own, "options": rest}, Stage, where=at)
    for source in stage.sources:
        if source not in sources:
            raise UnknownNameError(f"source in {at}", source, sources)
    return stage


def options(table: Any, kind: type[Any], *, where: str) -> Any:
    """Plain data as `kind`, a Struct; also for the options of a stage.

    Raises:
        UsageError: an unknown key (the nearest one is named), a missing one, or a wrong type or value.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{where}: a table is needed, not {type(table).__name__}")
    for key in table:
        if key not in kind.__struct_encode_fields__:
            raise UnknownNameError(f"key in {where}", key, kind.__struct_encode_fields__)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "").replace("Object missing required field", "missing:")
        raise UsageError(f"{where}: {said.replace(' - at $.', ', key ')}") from error
