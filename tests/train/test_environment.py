"""A training process is born with its settings; what the user has set stays, and other programs are told."""

import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.train.environment import missing, worker_environment

BORN = """
import os, sys
sys.argv[0] = {program!r}
from isoflop.train.environment import begin_anew
before = os.getpid()
begin_anew(3)
print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("MALLOC_TOP_PAD_"), os.environ.get("PYTORCH_ALLOC_CONF"))
"""


def born(folder: Path, program: str, **variables: str) -> list[str]:
    script = folder / "script.py"
    script.write_text(BORN.format(program=program))
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": ":".join(sys.path), **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout.split()


def test_the_program_begins_anew_once_with_the_settings_of_its_threads(tmp_path: Path) -> None:
    assert born(tmp_path, "/bin/isoflop") == ["3", str(2**28), "expandable_segments:True"]


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    found = born(tmp_path, "/bin/isoflop", OMP_NUM_THREADS="2", PYTORCH_CUDA_ALLOC_CONF="backend:native")
    assert found == ["2", str(2**28), "None"]


def test_another_program_is_never_replaced(tmp_path: Path) -> None:
    assert born(tmp_path, "/home/me/study.py") == ["None", "None", "None"]


def test_workers_get_as_many_threads_as_they_are_to_train_with() -> None:
    alone = worker_environment(1, environment={})
    assert (alone["OMP_NUM_THREADS"], alone["MKL_NUM_THREADS"]) == ("1", "1")
    assert "OMP_WAIT_POLICY" not in alone
    assert worker_environment(2, environment={})["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "PYTORCH_ALLOC_CONF" not in worker_environment(1, environment={"PYTORCH_CUDA_ALLOC_CONF": "backend:native"})


def test_a_program_of_its_own_is_told_what_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    said = missing(environment={})
    assert "MALLOC_TOP_PAD_=268435456" in said
    assert "2 to 6 %" in said
    assert missing(environment=worker_environment(1)) == ""
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert missing(environment={}) == ""  # the settings are glibc's
