"""On a Ray cluster the same bytes come out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.data import pipeline
from isoflop.files import sha256_file
from isoflop.specs.data_recipe import load

# In a process of its own: Ray leaves threads and warnings behind that are not ours.
PROGRAM = """
import sys
from pathlib import Path
from isoflop.data import pipeline
from isoflop.specs.data_recipe import load
pipeline.run(load(Path(sys.argv[1])), Path(sys.argv[2]), workers=2, engine="ray")
"""


def test_a_local_cluster_of_two_writes_the_bytes_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    rows = [{"text": f"Row {i % 30} of many, all of them long enough.", "id": str(i)} for i in range(60)]
    (tmp_path / "in").mkdir()
    for file in range(4):
        lines = "".join(json.dumps(row) + "\n" for row in rows[file::4])
        (tmp_path / "in" / f"{file}.jsonl").write_text(lines)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[source]]\npath = "in"\n[limits]\nshard_bytes = 500\n[[stage]]\nname = "exact"\n')
    pipeline.run(load(recipe), tmp_path / "one")
    subprocess.run([sys.executable, "-c", PROGRAM, recipe, tmp_path / "two"], check=True, capture_output=True)
    assert shards(tmp_path / "one") == shards(tmp_path / "two")
    assert pipeline.load(tmp_path / "two").stages[-1].tally.kept.documents == 30


def shards(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): sha256_file(path) for path in sorted(out.glob("*/**/*.*"))}
