"""`isoflop doctor` tells what is there, what is missing and what is broken, and never dies of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isoflop.train.cores import memory_of_machine
from isoflop.train.examine import _row

# What an install without extras looks like: no distribution of that name, no module of that name.
WITHOUT_TORCH = """
import importlib.metadata as m, sys
has = m.version
def version(name):
    if name in ("torch", "safetensors"):
        raise m.PackageNotFoundError(name)
    return has(name)
m.version = version
sys.modules["torch"] = None
"""


def doctor(
    *words: str | Path, cwd: Path, env: dict[str, str] | None = None, isolated: str = ""
) -> subprocess.CompletedProcess[str]:
    code = f"{isolated}\nfrom isoflop.cli import main; main()"
    command = [sys.executable, "-c", code, "doctor", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=cwd, env={**os.environ, **(env or {})}
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    answer = doctor("--json", cwd=tmp_path_factory.mktemp("here"))
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_rates_are_measured_alone_and_with_all_cores_busy(told: dict[str, Any]) -> None:
    cores = told["machine"]["cores"]
    measured = {(rate["precision"], rate["processes"], rate["threads"]) for rate in told["machine"]["rates"]}
    ways = {(1, cores)} if told["devices"] or cores == 1 else {(1, cores), (min(cores, 16), 1)}
    assert measured == {(precision, *way) for precision in ("fp32", "bf16") for way in ways}
    assert all(rate["flop_per_s"] > 1e8 for rate in told["machine"]["rates"])
    assert told["machine"]["copy_bytes_per_s"] > 1e8


def test_everything_in_the_tests_environment_is_there(told: dict[str, Any]) -> None:
    assert told["schema"] == "isoflop/doctor@1"
    assert told["broken"] == []
    assert all(part["install"] == "" for part in told["parts"])
    assert told["executable"] == sys.executable
    assert all(folder["writable"] for folder in told["folders"])


def test_without_torch_it_says_how_to_add_it_and_ends_well(tmp_path: Path) -> None:
    answer = doctor(cwd=tmp_path, isolated=WITHOUT_TORCH)
    assert answer.returncode == 0, answer.stderr
    assert "pip install 'isoflop[train]'" in answer.stdout
    assert "ready to plan" in answer.stdout


def test_a_torch_that_does_not_start_is_broken_and_the_rest_is_still_told(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch_cpu.so: undefined symbol')")
    answer = doctor(cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert answer.returncode == 6
    assert "undefined symbol" in answer.stdout
    assert "chromium" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr


def test_a_runs_folder_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    answer = doctor("--runs-dir", "/proc/isoflop/runs", "--json", cwd=tmp_path, isolated=WITHOUT_TORCH)
    if not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    assert answer.returncode == 6
    assert "/proc/isoflop/runs: cannot write" in json.loads(answer.stdout)["broken"][0]


def test_a_device_is_matched_by_its_exact_name_only() -> None:
    assert _row("NVIDIA H100 80GB HBM3") == "h100-sxm"
    assert _row("NVIDIA H100 80GB HBM3 MIG 1g.10gb") is None


def test_memory_available_is_part_of_the_memory_there_is() -> None:
    total, available = memory_of_machine()
    assert total is not None
    assert total > 1e8
    assert available is None or 0 <= available <= total
