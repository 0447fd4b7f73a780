"""The `isoflop` program without a process of its own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from isoflop.cli import app
from isoflop.cli.shell import guarded


def inside(*args: str, at: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `isoflop` with these arguments in this process, in the folder `at`, and take what it prints."""
    with pytest.MonkeyPatch.context() as patch, _printed() as printed:
        for name in os.environ:
            if name.startswith("ISOFLOP_"):
                patch.delenv(name)
        patch.setenv("ISOFLOP_TRAINING_ENVIRONMENT", "1")  # or training would begin this process anew
        patch.setattr(sys, "argv", ["isoflop", *args])
        if at is not None:
            patch.chdir(at)
        code = 0
        try:
            guarded(app)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(args, code, *printed)


@contextmanager
def _printed() -> Iterator[list[str]]:
    """Whatever this process and its children print, filled in at the end; a library may write past sys.stdout."""
    found: list[str] = []
    with ExitStack() as stack:
        kept = []
        for number, name in ((1, "stdout"), (2, "stderr")):
            getattr(sys, name).flush()
            kept.append(stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="")))
            before = os.dup(number)
            stack.callback(os.close, before)
            stack.callback(os.dup2, before, number)
            os.dup2(kept[-1].fileno(), number)
            own = stack.enter_context(os.fdopen(os.dup(number), "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(own) if number == 1 else redirect_stderr(own))
        yield found
        for stream, file in zip((sys.stdout, sys.stderr), kept, strict=True):
            stream.flush()
            file.seek(0)
            found.append(file.read())
