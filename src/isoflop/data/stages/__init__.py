"""The stages of a pipeline: one file each, its name is the stage's name in a recipe.

A stage's file holds

    class Options(Struct, ...)      what a recipe may set; frozen, keyword-only, each with its default where one fits
    VERSION                         an integer, raised when the same input gives other output
    def start(options, limits)      -> `PerDocument`, a function document -> document or Dropped that keeps nothing of
                                       one document for another
                                       or -> `Corpus`, where a document's fate hangs on all others

and, where they matter,

    PACKAGES                        names of packages whose version changes the output
    PATHS                           names of options that are paths of files or folders the stage reads, such as a model
                                       or word lists; relative ones lie beside the recipe

What `start` gives may have `warnings`, sentences that a reader must hear at the end of the run.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from isoflop import files, registry
from isoflop.data.document import Document, Dropped
from isoflop.errors import InputError
from isoflop.specs import data_recipe
from isoflop.specs.data_recipe import Limits

Fate: TypeAlias = Document | Dropped
PerDocument: TypeAlias = Callable[[Document], Fate]


@runtime_checkable
class Corpus(Protocol):
    """A stage in two passes: note something of each shard, judge all notes together, apply each verdict.

    The passes over documents run shard by shard on all workers, as tasks that can be done again; what passes between
    them are files. The judgement runs once, in the process that leads the run, and sees notes only.
    """

    def note(self, documents: Iterable[Document], path: Path) -> Sequence[Path]:
        """Write what must be known of a shard's documents to judge all.

        Args:
            path: what the names of the files written begin with.

        Returns:
            The files.
        """
        ...

    def judge(self, notes: Sequence[Path], scratch: Path) -> Iterable[bytes]:
        """One verdict for each document of all shards, in order.

        Args:
            notes: the `path` of each shard, in the order of the corpus.
            scratch: an empty folder for what is too large to hold; it is gone afterwards.
        """
        ...

    def apply(self, document: Document, verdict: bytes) -> Fate:
        """What becomes of a document."""
        ...


class Step(Struct, frozen=True):
    """A stage of a recipe, its options read.

    Attributes:
        sources: whose documents it may change or drop; all where none is named. It sees the others where it judges the
            whole corpus: a copy of a text that must stay is a copy.
    """

    name: str
    options: Any
    limits: Limits
    sources: tuple[str, ...] = ()

    def concerns(self, document: Document) -> bool:
        """Whether it may change or drop this one."""
        return not self.sources or document.source in self.sources

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
    placed = {name: _placed(getattr(options, name), Path(folder)) for name in _path_options(stage.name)}
    return Step(stage.name, replace(options, **placed), limits, stage.sources)


def key(step: Step) -> dict[str, Any]:
    """All that the stage's output hangs on besides its documents: of what it reads the content, not where it lies.

    Raises:
        InputError: a file that it reads is missing.
    """
    module = _module(step.name)
    options = {name: getattr(step.options, name) for name in step.options.__struct_fields__}
    for name in _path_options(step.name):
        options[name] = [_content(step.name, path) for path in _listed(options[name])]
    return {
        "stage": step.name,
        "version": module.VERSION,
        "options": options,
        "sources": step.sources,
        "limits": step.limits,
        "packages": {name: _version(name) for name in getattr(module, "PACKAGES", ())},
    }


def _path_options(name: str) -> tuple[str, ...]:
    return tuple(getattr(_module(name), "PATHS", ()))


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _placed(value: str | Sequence[str], folder: Path) -> str | tuple[str, ...]:
    """A path, or each of several, started from the recipe's folder."""
    placed = tuple(str(folder / Path(path).expanduser()) for path in _listed(value))
    return placed[0] if isinstance(value, str) else placed


def _content(stage: str, path: str) -> dict[str, str]:
    """sha256 of a file, or of each file of a folder by its name."""
    given = Path(path)
    if given.is_dir():
        found = sorted(each for each in given.rglob("*") if each.is_file())
        return {each.relative_to(given).as_posix(): files.sha256_file(each) for each in found}
    if not given.is_file():
        raise InputError(f"stage {stage}: {path}: no such file or folder")
    return {given.name: files.sha256_file(given)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _module(name: str) -> ModuleType:
    return registry.load("stage", name, "isoflop.data.stages")
