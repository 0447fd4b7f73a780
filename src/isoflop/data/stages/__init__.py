"""The stages of a pipeline: one file each, its name is the stage's name in a recipe.

A stage's file holds

    class Options(Struct, ...)      what a recipe may set; frozen, keyword-only, each with its default where one fits
    VERSION                         an integer, raised when the same input gives other output
    def start(options, limits)      -> `PerDocument`, a function document -> document or Dropped, made once a shard
                                       or -> `Corpus`, where a document's fate hangs on all others

and, where they matter,

    PACKAGES                        names of packages whose version changes the output
    def inputs(options)             -> paths of files the stage reads, such as a model or a word list; relative ones lie
                                       beside the recipe, and `Options` holds them as text
"""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from isoflop import files, registry
from isoflop.data.document import Document, Dropped
from isoflop.errors import InputError
from isoflop.specs import data_recipe
from isoflop.specs.data_recipe import Limits

Fate: TypeAlias = Document | Dropped
PerDocument: TypeAlias = Callable[[Document], Fate]


class Notes(Protocol):
    """What was noted of all documents, in their order, to be gone through as often as needed without holding it."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int: ...


@runtime_checkable
class Corpus(Protocol):
    """A stage in two passes: note something of each document, judge all notes together, apply each verdict.

    The passes over documents run shard by shard on all workers; the judgement runs once, and sees notes only.
    """

    def note(self, document: Document) -> bytes:
        """What must be known of a document to judge all."""
        ...

    def judge(self, notes: Notes) -> Iterable[bytes]:
        """One verdict for each note, in order."""
        ...

    def apply(self, document: Document, verdict: bytes) -> Fate:
        """What becomes of a document."""
        ...


class Step(Struct, frozen=True):
    """A stage of a recipe, its options read."""

    name: str
    options: Any
    limits: Limits

    def start(self) -> PerDocument | Corpus:
        """Make it ready to work; models are loaded here."""
        started: PerDocument | Corpus = _module(self.name).start(self.options, self.limits)
        return started


def step(stage: data_recipe.Stage, *, limits: Limits, folder: str) -> Step:
    """Read a stage's options; the files it names are looked for beside the recipe.

    Raises:
        UnknownNameError: no such stage, or no such option.
        UsageError: an option is missing or wrong.
    """
    options = data_recipe.options(stage.options, _module(stage.name).Options, where=f"stage {stage.name}")
    if hasattr(_module(stage.name), "inputs"):
        options = _placed(options, [str(path) for path in _module(stage.name).inputs(options)], Path(folder))
    return Step(stage.name, options, limits)


def _placed(options: Any, paths: list[str], folder: Path) -> Any:
    """The options with each of these paths started from the recipe's folder."""
    given = {name: getattr(options, name) for name in options.__struct_fields__}
    placed = {name: str(folder / value) for name, value in given.items() if isinstance(value, str) and value in paths}
    return type(options)(**given | placed)


def key(step: Step) -> dict[str, Any]:
    """All that the stage's output hangs on besides its documents.

    Raises:
        InputError: a file that it reads is missing.
    """
    module = _module(step.name)
    read = [Path(path) for path in module.inputs(step.options)] if hasattr(module, "inputs") else []
    for path in read:
        if not path.is_file():
            raise InputError(f"stage {step.name}: {path}: no such file")
    return {
        "stage": step.name,
        "version": module.VERSION,
        "options": {k: v for k, v in _plain(step.options).items() if v not in map(str, read)},
        "limits": step.limits,
        "inputs": [files.sha256_file(path) for path in read],
        "packages": {name: _version(name) for name in getattr(module, "PACKAGES", ())},
    }


def _plain(options: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__struct_fields__}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _module(name: str) -> ModuleType:
    return registry.load("stage", name, "isoflop.data.stages")
