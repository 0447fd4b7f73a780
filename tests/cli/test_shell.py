"""The error shell: one sentence and an exit code for every failure, and nothing else."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop import __version__, errors

Isoflop = Callable[..., "subprocess.CompletedProcess[str]"]


def guarded(statement: str, *, debug: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run a command whose body is `statement` inside the shell, in a process of its own."""
    program = f"""
        import sys, click, errno
        from isoflop import errors
        from isoflop.cli.shell import guarded
        sys.argv = ["isoflop"]
        @click.command()
        @click.pass_context
        def command(context):
            {statement}
        guarded(command)
    """
    clean = {name: value for name, value in os.environ.items() if name != "ISOFLOP_DEBUG"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **({"ISOFLOP_DEBUG": "1"} if debug else {})},
    )


KINDS = [kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "UnknownNameError"])
def test_each_error_is_one_sentence_and_its_exit_code(kind: str) -> None:
    done = guarded(f"raise errors.{kind}('runs.csv line 17: what is wrong')")
    assert done.returncode == getattr(errors, kind).exit_code
    assert (done.stdout, done.stderr) == ("", f"{kind}: runs.csv line 17: what is wrong\n")


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("raise KeyboardInterrupt", 130, "StoppedError: stopped; run the same command again to go on\n"),
        ("raise MemoryError", 6, "ResourceError: memory ran out"),
        ("raise OSError(errno.ENOSPC, 'No space left', 'runs/x')", 6, "ResourceError: runs/x: the disk is full"),
        ("raise BrokenPipeError", 0, ""),
        ("context.exit(3)", 3, ""),
        ("sys.exit(75)", 75, ""),
        ("import altair_that_is_not_there", 1, "bug in isoflop: ModuleNotFoundError"),
        ("raise ModuleNotFoundError('x', name='rustbpe')", 2, "this command needs rustbpe: pip install"),
        ("raise ModuleNotFoundError('x', name='torch.nn')", 2, "this command needs torch.nn: pip install"),
        ("raise EOFError('Compressed file ended')", 1, "bug in isoflop: EOFError: Compressed file ended\n"),
        ("1 / 0", 1, "bug in isoflop: ZeroDivisionError: division by zero\nISOFLOP_DEBUG=1 shows where"),
        ("raise click.UsageError('wrong')", 2, "Usage: isoflop"),
    ],
)  # fmt: skip
def test_whatever_happens_is_a_sentence_and_a_code(statement: str, code: int, said: str) -> None:
    done = guarded(statement)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("package", "extra"), [("rustbpe", "data"), ("torch.nn", "train"), ("altair", "report")])
def test_a_part_that_is_not_installed_is_named_with_the_way_to_it(package: str, extra: str) -> None:
    done = guarded(f"raise ModuleNotFoundError('x', name='{package}')")
    assert done.stderr == f"this command needs {package}: pip install 'isoflop[{extra}]'\n"


@pytest.mark.parametrize("statement", ["raise errors.InputError('x')", "1 / 0", "raise KeyboardInterrupt"])
def test_a_traceback_is_shown_with_isoflop_debug_only(statement: str) -> None:
    told, quiet = guarded(statement, debug=True), guarded(statement)
    assert "Traceback (most recent call last)" in told.stderr
    assert "Traceback" not in quiet.stderr
    assert told.stderr.endswith(quiet.stderr)
    assert told.returncode == quiet.returncode


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("lwa",), "UnknownNameError: no command named 'lwa'; did you mean 'law'"),
        (("law", "fti"), "UnknownNameError: no command named 'fti'; did you mean 'fit'"),
        (("--nope",), "No such option '--nope'"),
        (("law", "optimum", "1e21", "--nope"), "No such option '--nope'"),
        (("law", "optimum"), "Missing argument 'COMPUTE'"),
        (("law", "optimum", "1e21", "--level", "2"), "Invalid value for '--level'"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(isoflop: Isoflop, args: tuple[str, ...], said: str) -> None:
    done = isoflop(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_version_is_the_packages(program: Isoflop) -> None:
    assert program("--version").stdout == f"isoflop, version {__version__}\n"


def test_json_is_exactly_one_object_with_its_schema_and_stderr_is_quiet(program: Isoflop) -> None:
    done = program("law", "optimum", "1e21", "--json")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["schema"] == "isoflop/law.optimum@1"
    assert done.stderr == ""


def test_a_pipe_gets_no_colour_and_no_bars(program: Isoflop) -> None:
    done = program("law", "optimum", "1e21")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("args", [("--help",), ("law", "optimum", "1e21"), ("law", "optimum", "1e21", "--json")])
def test_a_reader_that_leaves_is_no_failure(args: tuple[str, ...], program: Isoflop) -> None:
    read, write = os.pipe()
    os.close(read)
    done = program(*args, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("args", [("--help",), ("law", "optimum", "1e21"), ("law", "optimum", "1e21", "--json")])
def test_an_answer_that_finds_no_room_ends_with_6(args: tuple[str, ...], program: Isoflop) -> None:
    with Path("/dev/full").open("w") as full:
        done = program(*args, stdout=full.fileno())
    assert done.returncode == 6
    assert done.stderr == "ResourceError: output: the disk is full. Free some space and run it again\n"
