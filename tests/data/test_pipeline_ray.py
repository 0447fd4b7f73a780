"""On a Ray cluster the same bytes come out, also where a worker is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.data import pipeline
from isoflop.files import sha256_file
from isoflop.specs.data_recipe import load

# In a process of its own: Ray leaves threads and warnings behind that are not ours. The first worker that has done a
# shard is killed; which one that is, is read from the children of the cluster that this process has started.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from isoflop.data import pipeline
from isoflop.errors import ResourceError
from isoflop.specs.data_recipe import load

NO_CLUSTER = "no cluster:"

def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

def ours():
    for each in Path("/proc").glob("[0-9]*"):
        try:
            name = each.joinpath("cmdline").read_bytes()
            if name.startswith((b"ray::work", b"ray::IDLE")) and parent(parent(each.name)) == os.getpid():
                yield int(each.name)
        except OSError:
            continue

killed = []
def kill_one(stage, done, total):
    if not killed:
        killed.append(next(ours()))
        os.kill(killed[0], signal.SIGKILL)

try:
    pipeline.run(load(Path(sys.argv[1])), Path(sys.argv[2]), workers=2, engine="ray", on_progress=kill_one)
except ResourceError as error:
    sys.exit(f"{NO_CLUSTER} {error}" if not killed else error)
print(len(killed))
"""


def test_a_local_cluster_of_two_with_one_killed_writes_the_bytes_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    if sys.platform != "linux":
        pytest.skip("the worker to kill is found under /proc")
    rows = [{"text": f"Row {i % 30} of many, all of them long enough.", "id": str(i)} for i in range(60)]
    (tmp_path / "in").mkdir()
    for file in range(4):
        lines = "".join(json.dumps(row) + "\n" for row in rows[file::4])
        (tmp_path / "in" / f"{file}.jsonl").write_text(lines)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[source]]\npath = "in"\n[limits]\nshard_bytes = 500\n[[stage]]\nname = "exact"\n'
                      '[[stage]]\nname = "repeats"\nunit = "passage"\nwords = 9\n')  # fmt: skip
    pipeline.run(load(recipe), tmp_path / "one")
    command = [sys.executable, "-c", PROGRAM, str(recipe), str(tmp_path / "two")]
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    if "no cluster: Ray did not start here" in done.stderr:
        pytest.skip("Ray does not start on this machine now")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("1\n")  # Ray itself tells of the loss before
    assert shards(tmp_path / "one") == shards(tmp_path / "two")
    assert pipeline.load(tmp_path / "two").stages[-1].tally.kept.documents == 30


def shards(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): sha256_file(path) for path in sorted(out.glob("*/**/*.*"))}
