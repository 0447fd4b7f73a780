"""Kill a ladder with branches at random moments, and hold its end against one left alone, to the bit.

    python benchmarks/soak_ladder.py [--kills 10] [--seed 0]

A kill is `kill -9` of the sweep, of one of its workers, or of all of them at once; then the same command is started
again. Prints what was killed and when, and whether the runs are the same: their folders, keys, statuses, losses and
tokens, every tensor of every newest checkpoint, and `runs.jsonl`.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from ladder_text import nano_rung, write_shards
from msgspec import structs

from isoflop.specs.run import Run
from isoflop.specs.saving import Saving
from isoflop.train import checkpoint, store
from isoflop.train.branch import Branch, Rung
from isoflop.train.sweep import SweepEvent, sweep

VICTIMS = ("the sweep", "a worker", "all")
LEAST_STEPS = 60  # of a trunk, for each kill
MOST_EVENTS = 7  # before a kill: the whole ladder tells of some forty, and all kills shall meet it at work


def main() -> int:
    """Run as a program; with `--go-on` as one attempt of the ladder under attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--go-on", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.go_on:
        _sweep(arguments.go_on, arguments.go_on / "attacked", kills=arguments.kills)
        return 0
    dice = random.Random(arguments.seed)
    place = Path(tempfile.mkdtemp())
    write_shards(place / "shards", words=50_000)
    code = _soak(place, arguments.kills, dice)
    if code:
        print(f"the folders are left in {place}")
    else:
        shutil.rmtree(place)
    return code


def _soak(place: Path, kills: int, dice: random.Random) -> int:
    whole = _sweep(place, place / "whole", kills=kills)
    done = sum(_attempt(place, dice, number, kills) for number in range(1, kills + 1))
    again = _sweep(place, place / "attacked", kills=kills)
    differences = _differences(place, whole, again)
    print(f"{done} of {kills} kills met the ladder at work; {len(whole)} runs")
    for difference in differences:
        print(f"DIFFERENT: {difference}")
    print("the runs are " + ("DIFFERENT" if differences else "the same to the bit"))
    return 1 if differences or not done else 0


def _rungs(place: Path, *, kills: int) -> list[Rung]:
    """Two trunks with three branches each, and two runs of their own."""
    steps = LEAST_STEPS * max(kills, 4)
    saving = Saving(every_steps=25)
    rungs: list[Rung] = []
    for width in (32, 48):
        trunk = nano_rung(place / "shards", width=width, steps=steps, batch=1, stable=True)
        trunk = structs.replace(trunk, name=f"trunk{width}", checkpoint=saving)
        rungs += [
            Branch(name=f"w{width}-d{at}", trunk=trunk, step=at, cooldown_steps=at // 5)
            for at in (steps // 4, steps // 2 + 1, steps)
        ]
        rungs += [trunk, structs.replace(nano_rung(place / "shards", width=width, steps=steps // 2), checkpoint=saving)]
    return rungs


def _sweep(place: Path, folder: Path, *, kills: int) -> list[Run]:
    def tell(event: SweepEvent) -> None:
        print(event.kind, event.run_id, event.step, flush=True) if event.kind != "tick" else None

    quiet = folder.name == "whole"
    return sweep(
        _rungs(place, kills=kills),
        runs_dir=folder,
        workers=2,
        threads=1,
        peak_flop_per_s=None,
        on_event=(lambda event: None) if quiet else tell,
    )


def _attempt(place: Path, dice: random.Random, number: int, kills: int) -> bool:
    """Start it, wait for some events, kill; whether it was at work."""
    command = [sys.executable, __file__, "--go-on", str(place), "--kills", str(kills)]
    heard = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        wait_for = dice.randint(1, MOST_EVENTS)
        for line in process.stdout:
            heard += line.split()[0] in {"started", "step", "evaluation", "finished"}
            if heard >= wait_for:
                break
        time.sleep(dice.uniform(0.0, 0.3))
        victim = dice.choice(VICTIMS)
        at_work = process.poll() is None
        workers = _workers(process.pid)
        doomed = {"the sweep": [process.pid], "a worker": workers[:1], "all": [process.pid, *workers]}[victim]
        for pid in doomed:
            with suppress(ProcessLookupError):  # it ended a moment ago
                os.kill(pid, signal.SIGKILL)
        if victim == "a worker":  # the sweep goes on, and ends a moment later
            time.sleep(dice.uniform(0.0, 5.0))
            process.kill()
    print(f"kill {number}: {victim}, after {heard} events", file=sys.stderr, flush=True)
    return at_work


def _workers(parent: int) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            above = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent and b"isoflop.train.worker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (OSError, ValueError):
            continue
    return found


def _differences(place: Path, whole: list[Run], again: list[Run]) -> list[str]:
    """A sentence for each thing that is not the same."""
    found = []
    facts = ("id", "key", "status", "loss_nats", "bits_per_byte", "n_tokens", "unique_tokens", "compute_flop", "origin")
    for one, other in zip(whole, again, strict=True):
        found += [f"{one.id}: {name}" for name in facts if getattr(one, name) != getattr(other, name)]
        if not _same_tensors(place / "whole" / one.id, place / "attacked" / one.id):
            found.append(f"{one.id}: its newest checkpoint")
    folders = [{run.id for run in store.scan(place / name).runs} for name in ("whole", "attacked")]
    listed = [{(run.id, run.loss_nats) for run in store.read_sweep(place / name)} for name in ("whole", "attacked")]
    return [
        *found,
        *(["folders"] if folders[0] != folders[1] else []),
        *(["runs.jsonl"] if listed[0] != listed[1] else []),
    ]


def _same_tensors(one: Path, other: Path) -> bool:
    newest = [checkpoint.listing(run)[-1:] for run in (one, other)]
    if not all(newest):
        return False
    a, b = (checkpoint.load(entry.folder).tensors for (entry,) in newest)
    return all(torch.equal(a[group][name], b[group][name]) for group in a for name in a[group])


if __name__ == "__main__":
    sys.exit(main())
