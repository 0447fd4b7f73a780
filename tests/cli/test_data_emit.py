"""`isoflop data emit`: the script that queues a recipe's phases, and what each member of it is told to do."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import Here

RECIPE = """
[[source]]
path = "in"
[limits]
shard_bytes = 500
[[stage]]
name = "length"
least = 5
[[stage]]
name = "exact"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Rows, some of them copies, in a folder whose name a shell must not read."""
    folder = tmp_path / "it's $HOME `x`"
    (folder / "in").mkdir(parents=True)
    for file in range(3):
        rows = [{"text": f"Row {i % 30} is long enough to be kept.", "id": str(i)} for i in range(file, 60, 3)]
        (folder / "in" / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def called(folder: Path, *argv: str, **env: str) -> list[list[str]]:
    """What a script calls of `sbatch` and `isoflop`, each with its arguments; jobs get the numbers 1, 2, ..."""
    log = folder / "called"
    log.unlink(missing_ok=True)
    for name in ("sbatch", "isoflop"):
        stub = folder / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(
            f'#!/bin/sh\n{{ printf "%s\\t" {name} "$@"; echo; }} >> "{log}"\ngrep -c . "{log}" | sed "s/$/;here/"\n'
        )
        stub.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", *argv], check=True, capture_output=True, env={**os.environ, **env, "PATH": path})
    return [line.rstrip("\t").split("\t") for line in log.read_text().splitlines()]


def test_the_script_queues_every_phase_after_the_one_before_and_its_members_do_the_run(
    here: Here, recipe: Path, tmp_path: Path
) -> None:
    one, many = str(tmp_path / "one"), recipe.parent / "many"
    alone = here("data", "run", str(recipe), "--out", one, "--workers", "1", "--json").json
    done = here("data", "emit", str(recipe), "--array", "2", "--corpus", str(many), "--cpus", "1", "--time", "90 min",
                "--partition", "cpu", "--out", str(tmp_path), "--json")  # fmt: skip
    assert done.json["schema"] == "isoflop/data.emit@1"
    assert [each["n_members"] for each in done.json["phases"]] == [2, 1, 2, 1, 2, 1]
    script = done.json["written"][0]
    assert Path(script).read_text() == done.json["files"]["data.sbatch"]
    for line in ("--partition=cpu", "--cpus-per-task=1", "--time=0-01:30:00", "--requeue"):
        assert f"#SBATCH {line}\n" in Path(script).read_text()

    queued = called(tmp_path, script, "--qos=high")
    assert len(queued) == 6
    for phase, job in enumerate(queued, 1):
        n = "2" if phase % 2 else "1"
        assert f"--array=1-{n}" in job
        assert [each for each in job if "dependency" in each] == [f"--dependency=afterok:{phase - 1}"] * (phase > 1)
        assert job[-5:] == ["--qos=high", script, "member", str(phase), n]
        for member in range(int(n), 0, -1):
            (told,) = called(tmp_path, *job[-4:], SLURM_ARRAY_TASK_ID=str(member), SLURM_CPUS_ON_NODE="1")
            answer = here(*told[1:], "--json")
            assert answer.code == 0, answer.err
            assert answer.json["schema"] == ("isoflop/data.run@1" if phase == 6 else "isoflop/data.phase@1")
    assert {**answer.json, "folder": "", "text": ""} == {**alone, "folder": "", "text": ""}


def test_shellcheck_has_nothing_to_say_of_the_array(here: Here, recipe: Path, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    script = tmp_path / "data.sbatch"
    script.write_text(here("data", "emit", str(recipe), "--array", "8", "--corpus", str(recipe.parent / "out")).out)
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_wrong_phases_parts_and_wishes_end_with_2_and_a_phase_too_early_with_4(
    here: Here, recipe: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    wrong = [
        (("run", "--out", out, "--phase", "7"), 2, "the phases are 1 read"),
        (("run", "--out", out, "--phase", "x"), 2, "write for example 3/8"),
        (("run", "--out", out, "--phase", "1", "--part", "3/2"), 2, "parts are 1/2 to 2/2"),
        (("run", "--out", out, "--phase", "1", "--part", "3"), 2, "write I/N beside a --phase"),
        (("run", "--out", out, "--part", "1/2"), 2, "write I/N beside a --phase"),
        (("run", "--out", out, "--phase", "2/6"), 4, "3 of 3 shards are missing"),
        (("emit", "--array", "0"), 2, "0"),
        (("emit", "--array", "2", "--time", "8"), 2, "--time"),
        (("emit", "--array", "2", "--partition", "a b"), 2, "--partition"),
        (("emit", "--array", "2", "--partition", "a\n#SBATCH --uid=0"), 2, "cannot hold"),
    ]
    for (verb, *options), code, said in wrong:
        done = here("data", verb, str(recipe), *options)
        assert (done.code, said in done.err) == (code, True), done.err
