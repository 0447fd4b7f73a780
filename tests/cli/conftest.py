"""The real command: in a process of its own where that is what is tested, in this one where it is not."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.inside import inside

from isoflop.cli import app
from isoflop.cli.shell import guarded

Isoflop = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def program() -> Isoflop:
    """Run `python -m isoflop` with these arguments; `env` adds to the environment, `stdout` goes where it says."""

    def run(
        *args: str, env: dict[str, str] | None = None, stdout: int = subprocess.PIPE
    ) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ISOFLOP_")}
        return subprocess.run(
            [sys.executable, "-m", "isoflop", *args],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env={**clean, **(env or {})},
            check=False,
            timeout=600,  # for what hangs; a slow machine is no failure
        )

    return run


@pytest.fixture(scope="session")
def isoflop() -> Isoflop:
    """What `program` does, without the seconds that a second Python and its torch take: the same shell, exit codes and
    bytes, in this process.
    """
    return inside


class Answer(NamedTuple):
    """What a command did, in this process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its one JSON object."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Here = Callable[..., Answer]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """Run `isoflop` with these arguments in this process: the same shell and exit codes, without a second Python."""

    def run(*args: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["isoflop", *args])
        capfd.readouterr()
        code = 0
        try:
            guarded(app)
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        shown = capfd.readouterr()
        return Answer(code, shown.out, shown.err)

    return run


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of words that follow each other by rule, so that there is something to learn."""
    random_ = random.Random(0)
    words = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "ru") for b in ("dor", "fen", "gal", "sun")]
    folder = tmp_path_factory.mktemp("text")
    for i in range(60):
        at, said = random_.randrange(20), []
        for _ in range(1200):
            at = (at * 3 + random_.choice((1, 1, 1, 2))) % 20
            said.append(words[at])
        (folder / f"{i:02d}.txt").write_text(" ".join(said))
    return folder
