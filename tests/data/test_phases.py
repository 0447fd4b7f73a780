"""A job array writes the bytes of one process: any number of members, in any order, one killed and started again."""

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.data.left import hashes

from isoflop.data import phases, pipeline
from isoflop.errors import InputError, UsageError
from isoflop.specs.data_recipe import load

RECIPE = """
[[source]]
path = "in"
[limits]
shard_bytes = 900
[[stage]]
name = "length"
least = 20
[[stage]]
name = "exact"
[[stage]]
name = "repeats"
unit = "passage"
words = 9
[[stage]]
name = "length"
least = 30
"""
# Dies without a word in the middle of its part, as a member whose machine is taken away.
KILLED = """
import os, signal, sys
from pathlib import Path
from isoflop.data import phases
from isoflop.specs.data_recipe import load

def die(stage, done, total):
    if done < total:
        os.kill(os.getpid(), signal.SIGKILL)

phases.run(load(Path(sys.argv[1])), Path(sys.argv[2]), number=3, part=2, n_parts=2, on_progress=die)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of rows, some short, some copies, read into eight shards, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("array")
    (folder / "in").mkdir()
    for file in range(4):
        texts = ["short" if i % 9 == 0 else f"Row {i % 50} of all, and all of them speak of the same few things"
                 + " again" * (i % 4) for i in range(file, 100, 4)]  # fmt: skip
        lines = "".join(json.dumps({"text": text, "id": f"{file}.{i}"}) + "\n" for i, text in enumerate(texts))
        (folder / "in" / f"{file}.jsonl").write_text(lines)
    (folder / "recipe.toml").write_text(RECIPE)
    pipeline.run(load(folder / "recipe.toml"), folder / "one")
    return folder


def do(place: Path, out: str, number: int, part: int = 1, n_parts: int = 1) -> phases.Part | pipeline.Run:
    return phases.run(load(place / "recipe.toml"), place / out, number=number, part=part, n_parts=n_parts)


def test_phases_take_turns_between_many_processes_and_one(place: Path) -> None:
    found = phases.phases(load(place / "recipe.toml"))
    assert [each.name for each in found] == [
        "read", "list what was read", "length, notes for exact", "judge for exact", "exact, notes for repeats",
        "judge for repeats", "repeats, length", "publish",
    ]  # fmt: skip
    assert [each.members for each in found] == [True, False] * 4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_any_number_of_members_in_any_order_writes_the_bytes_of_one_process(place: Path, n: int) -> None:
    out, order = f"members{n}", random.Random(n)
    for number, phase in enumerate(phases.phases(load(place / "recipe.toml")), 1):
        n_parts = n if phase.members else 1
        made = [do(place, out, number, part, n_parts) for part in order.sample(range(1, n_parts + 1), n_parts)]
        if phase.members:
            shards = [part.n_shards for part in made if isinstance(part, phases.Part)]
            assert max(shards) - min(shards) <= 1
            assert sum(shards) == 4 if number == 1 else sum(shards) == len(list((place / "one/00-read/kept").iterdir()))
    assert hashes(place / out) == hashes(place / "one")
    told = {(each.folder, each.stage): each.n_tasks for each in pipeline.times(place / out)}
    assert told == {(each.folder, each.stage): each.n_tasks for each in pipeline.times(place / "one")}


def test_a_member_killed_in_the_middle_stops_what_follows_until_it_is_started_again(place: Path) -> None:
    for number in (1, 2):
        do(place, "killed", number)
    killed = subprocess.run([sys.executable, "-c", KILLED, place / "recipe.toml", place / "killed"], check=False)
    assert killed.returncode == -signal.SIGKILL
    do(place, "killed", 3, 1, 2)
    with pytest.raises(InputError, match=r"01-length: \d of 8 shards are missing.*: 0000\d-0.*phase 3/8 \(length"):
        do(place, "killed", 4)
    # One that comes too early names the same shards.
    with pytest.raises(InputError, match=r"01-length: \d of 8 shards are missing"):
        do(place, "killed", 5, 1, 2)
    again = do(place, "killed", 3, 2, 2)
    assert isinstance(again, phases.Part)
    assert 0 < again.n_worked < 2 * again.n_shards
    for number in range(4, 9):
        do(place, "killed", number)
    assert hashes(place / "killed") == hashes(place / "one")


def test_a_damaged_shard_is_found_by_the_member_that_reads_it(place: Path) -> None:
    for number in range(1, 5):
        do(place, "damaged", number)
    shard = next((place / "damaged" / "01-length" / "kept").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=f"{re.escape(str(shard))}: damaged shard"):
        do(place, "damaged", 5)
    for number in range(3, 9):
        do(place, "damaged", number)
    assert hashes(place / "damaged") == hashes(place / "one")


def test_what_was_begun_with_another_recipe_is_not_gone_on_with(place: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE.replace('"in"', f'"{place / "in"}"'))
    for number in (1, 2):
        phases.run(load(recipe), out, number=number)
    recipe.write_text(recipe.read_text().replace("least = 20", "least = 21"))
    with pytest.raises(InputError, match=r"made for another recipe.*phase 2/8 \(list what was read\) again"):
        phases.run(load(recipe), out, number=3)


def test_no_such_phase_and_no_such_part_are_told(place: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"number": 9}, "the phases are 1 read, 2 list"),
        ({"number": 0}, "the phases are"),
        ({"number": 1, "part": 4, "n_parts": 3}, "parts are 1/3 to 3/3"),
        ({"number": 1, "part": 0, "n_parts": 3}, "parts are 1/3 to 3/3"),
        ({"number": 2, "part": 1, "n_parts": 3}, "one process's"),
        ({"number": 1, "n_phases": 4}, "has 8 phases"),
    ]
    for given, said in wrong:
        with pytest.raises(UsageError, match=said):
            phases.run(load(place / "recipe.toml"), place / "none", **given)
    with pytest.raises(InputError, match=r"00-read: 4 of 4 shards are missing.*: 00000, 00001, 00002, 00003"):
        do(place, "none", 2)
    idle = do(place, "none", 1, 5, 5)  # more members than there are files
    assert isinstance(idle, phases.Part)
    assert (idle.n_shards, idle.n_worked) == (0, 0)
