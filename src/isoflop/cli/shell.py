"""The one error shell around every command, and the options and printing they share."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

import click
import msgspec

from isoflop.errors import IsoflopError, ResourceError, StoppedError
from isoflop.report.law_blocks import Block, Facts, Line, Table, Warned

if TYPE_CHECKING:
    from isoflop.report.law_page import Page

F = TypeVar("F", bound=Callable[..., Any])
Charts: TypeAlias = Callable[[Any], "Page"]


def guarded(command: click.Command) -> None:
    """Run the command line; every failure becomes one sentence on stderr and its exit code (see `errors`).

    A traceback is shown with `ISOFLOP_DEBUG=1` only.
    """
    try:
        if "_ISOFLOP_COMPLETE" in os.environ:  # a shell asks how to complete a line
            command.main(prog_name="isoflop")
        # Not click's `main`: it takes a closed pipe for a failure and a torn gzip (EOFError) for Ctrl-C.
        with command.make_context("isoflop", sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        _end(stop.exit_code)
    except click.ClickException as error:
        error.show()
        _end(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail(StoppedError("stopped; run the same command again to go on"))
    except BrokenPipeError:
        _end(0)
    except IsoflopError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        _fail_missing(error)
    except MemoryError:
        _fail(ResourceError("memory ran out; ask for less at once, or use a machine with more"))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            _fail(ResourceError(f"{error.filename or 'output'}: the disk is full. Free some space and run it again"))
        _fail_bug(error)
    except Exception as error:
        _fail_bug(error)


def _end(code: int) -> NoReturn:
    """Leave with this code; what stdout can no longer take is let go, or Python would end with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _fail(error: IsoflopError) -> NoReturn:
    _trace()
    click.echo(f"{type(error).__name__}: {error}", err=True)
    _end(error.exit_code)


def _fail_bug(error: BaseException) -> NoReturn:
    _trace()
    click.echo(
        f"bug in isoflop: {type(error).__name__}: {error}\nISOFLOP_DEBUG=1 shows where; please report it", err=True
    )
    _end(1)


_EXTRA = {
    "torch": "train", "safetensors": "train", "rustbpe": "data", "tiktoken": "data", "pyarrow": "data",
    "zstandard": "data", "regex": "data", "tokenizers": "tokenizers", "tensorboard": "tensorboard", "wandb": "wandb",
    "trackio": "trackio", "codecarbon": "carbon", "altair": "report", "vl_convert": "report",
    "resiliparse": "web", "trafilatura": "web", "justext": "web", "lxml": "web", "rensa": "web", "fsspec": "web",
    "py3langid": "web", "ray": "ray",
}  # fmt: skip


def _fail_missing(error: ModuleNotFoundError) -> NoReturn:
    extra = _EXTRA.get((error.name or "").partition(".")[0])
    if extra is None:
        _fail_bug(error)
    _trace()
    click.echo(f"this command needs {error.name}: pip install 'isoflop[{extra}]'", err=True)
    _end(2)


def _trace() -> None:
    if os.environ.get("ISOFLOP_DEBUG") == "1":
        traceback.print_exc()


class Output:
    """Where a command's answer goes: one JSON object on stdout, or text for people; a page beside either.

    Attributes:
        as_json: `--json` was given.
        html: where to write the page; None without `--html`.
        about: what the command does, in a sentence: the title of a page that has no better one.
    """

    def __init__(self, *, verb: str, as_json: bool, html: Path | None = None, about: str = "") -> None:
        self.verb = verb
        self.as_json = as_json
        self.html = html
        self.about = about

    def of(self, verb: str) -> "Output":
        """The same place for another answer, with a schema of its own."""
        return Output(verb=verb, as_json=self.as_json, html=self.html, about=self.about)

    def show(
        self,
        payload: Mapping[str, Any],
        render: Callable[["Printer"], None],
        *,
        page: Charts | None = None,
    ) -> None:
        """Print the payload as JSON, stamped with its schema, or call `render` to print it for people.

        Args:
            page: picks from `isoflop.report.law_pages` what a page shows beside the words of `render`; called with
                `--html` only.
        """
        if self.as_json:
            sys.stdout.buffer.write(msgspec.json.encode({"schema": f"isoflop/{self.verb}@1", **payload}) + b"\n")
        else:
            render(Printer())
        if self.html:
            self._write_page(self.html, render, page)

    def _write_page(self, path: Path, render: Callable[["Printer"], None], page: Charts | None) -> None:
        # Charts cost half a second to import: only those who ask for a page pay.
        from msgspec.structs import replace

        from isoflop import stamp
        from isoflop.report import law_page, law_pages

        recorder = Recorder()
        render(recorder)
        made = page(law_pages) if page else law_page.Page(title=self.about)
        made = made if made.stamp else replace(made, stamp=stamp.make())
        command = f"isoflop {self.verb.replace('.', ' ')}"
        law_page.write(path, command=command, page=made, said=recorder.blocks)
        self.progress(f"the page: {path} ({path.stat().st_size / 1e6:.1f} MB)")

    def progress(self, text: str) -> None:
        """One line for people on stderr."""
        click.echo(text, err=True)


class Printer:
    """Tables and lines on stdout through rich, imported only when something is printed."""

    def __init__(self) -> None:
        from rich.console import Console

        class Piped(Console):
            """Leaves a closed pipe to `guarded`; rich would end with 1."""

            def on_broken_pipe(self) -> NoReturn:
                raise BrokenPipeError

        # A pipe gets full-width lines; a terminal gets its own width.
        self.console = Piped(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """One line of text, no markup read from it."""
        self.console.print(text, style=style, markup=False)

    def warn(self, text: str) -> None:
        """One warning."""
        self.line(f"! {text}", style="yellow")

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table; numbers and all are given as text, the first column left, the others right."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    def facts(self, title: str, rows: list[tuple[str, str]]) -> None:
        """Names and their values, one pair a line, both to the left."""
        width = max((len(name) for name, _ in rows), default=0)
        self.line(title, style="italic")
        for name, value in rows:
            self.line(f"  {name:<{width}}  {value}")
        self.line()


class Recorder(Printer):
    """Takes down what a command prints, to be set as a page."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """One line of text."""
        self.blocks.append(Line(text, bold=style == "bold"))

    def warn(self, text: str) -> None:
        """One warning."""
        self.blocks.append(Warned(text))

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table."""
        self.blocks.append(Table(title, columns, rows))

    def facts(self, title: str, rows: list[tuple[str, str]]) -> None:
        """Names and their values."""
        self.blocks.append(Facts(title, rows))


# The verbs that can write their answer as a page.
_PAGED = re.compile(r"law\..*|plan|plan-diff|tokenizer\.(report|advise)|data\.report|data\.classifier\..*")


def output_options(verb: str) -> Callable[[F], F]:
    """Give a command `--json`, laws and plans `--html` as well, and hand it an `Output` as its `output` argument."""

    def decorate(function: F) -> F:
        about = (function.__doc__ or verb).partition("\n")[0]

        def with_output(*args: Any, as_json: bool, html: Path | None = None, **options: Any) -> Any:
            if html:
                _charts_or_stop()
            return function(*args, output=Output(verb=verb, as_json=as_json, html=html, about=about), **options)

        with_output.__doc__ = function.__doc__
        with_output.__name__ = function.__name__
        with_output.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        if _PAGED.fullmatch(verb):
            click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                         help="Write charts and tables as one page that works offline.")(with_output)  # fmt: skip
        return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(with_output)  # type: ignore[return-value]

    return decorate


def _charts_or_stop() -> None:
    """Say what is missing before a long fit, not after it."""
    for name in ("altair", "vl_convert"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
