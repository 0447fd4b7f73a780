"""What a run spends outside its steps: `python benchmarks/train_overhead.py [--steps 1000] [--runs 3]`.

First the way to the first step of recipes/tiny.toml: `isoflop train` from its start to the line that says training
begins, and to the end of a run of one step, beside a bare python and an import of torch. Then a run of --steps steps of
the same recipe: the share of its time in batches, steps, the journal (curve, reports), checkpoints and evaluation.
Wall time counts for a user; the processor's time beside it stays what it is on a busy machine.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from msgspec import structs

from isoflop.data.corpus import source
from isoflop.data.tokenization import tokenize
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import load
from isoflop.train import session
from isoflop.train.journal import Journal
from isoflop.train.keeper import Keeper
from isoflop.train.learner import Learner
from isoflop.train.loop import train
from isoflop.train.task import Batches

RECIPE = Path(__file__).parent.parent / "recipes" / "tiny.toml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isoflop-overhead-") as place:
        shards = Path(place, "shards")
        tokenize(source(None).documents, folder=shards, vocabulary=1024, validation_fraction=0.08, source="benchmark")
        start_up(Path(place), shards, runs=told.runs)
        recipe = structs.replace(load(RECIPE), shards=str(shards))
        share(structs.replace(recipe, n_tokens=told.steps * recipe.batch_tokens), Path(place, "shared"))


def start_up(place: Path, shards: Path, *, runs: int) -> None:
    """From the start of a process to its first step; medians."""
    train_one = [sys.executable, "-m", "isoflop", "train", str(RECIPE), "--set", f"shards={shards}", "--set",
                 "n_tokens=512", "--set", "evaluations=1", "--set", "validation_tokens=128"]  # fmt: skip
    print(f"{'start-up, s':<44}{'wall':>8}{'CPU':>8}")
    for name, command, mark in (
        ("python", [sys.executable, "-c", "pass"], None),
        ("python, import torch", [sys.executable, "-c", "import torch"], None),
        ("isoflop train, to its first step", train_one, ": start"),
        ("isoflop train, one step and the end", train_one, None),
    ):
        seen = [timed([*command, "--runs-dir", str(place / f"{mark}{i}")] if command is train_one else command, mark)
                for i in range(runs)]  # fmt: skip
        wall_s, cpu_s = (statistics.median(each) for each in zip(*seen, strict=True))
        print(f"{name:<44}{wall_s:>8.2f}" + (f"{cpu_s:>8.2f}" if mark is None else ""))


def timed(command: list[str], mark: str | None) -> tuple[float, float]:
    """Wall seconds to the first line on stderr with `mark` in it, or to the end; the processor's to the end."""
    before, begin, found = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if mark is not None and mark in line and not found:
                found = time.perf_counter() - begin
    if process.returncode or (mark is not None and not found):
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found or time.perf_counter() - begin, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def share(recipe: Recipe, folder: Path) -> None:
    """Where the time of a run goes."""
    spent: dict[str, list[float]] = {}
    parts: list[tuple[Any, str, str]] = [
        (Batches, "batch", "batches"), (Learner, "step", "steps"), (Journal, "stepped", "journal"),
        (Keeper, "save", "checkpoints"), (session, "evaluate", "evaluation"),
    ]  # fmt: skip
    for owner, name, title in parts:
        setattr(owner, name, clocked(getattr(owner, name), spent.setdefault(title, [0.0, 0.0])))
    begin, cpu = time.perf_counter(), time.process_time()
    train(recipe, folder=folder)
    whole = time.perf_counter() - begin, time.process_time() - cpu
    print(f"\n{f'{recipe.steps} steps, s':<44}{'wall':>8}{'CPU':>8}{'CPU of steps':>14}")
    left = [total - sum(each[i] for each in spent.values()) for i, total in enumerate(whole)]
    for title, (wall_s, cpu_s) in [*spent.items(), ("the rest (model, loop, files)", left)]:
        print(f"{title:<44}{wall_s:>8.2f}{cpu_s:>8.2f}{cpu_s / spent['steps'][1]:>14.2%}")


def clocked(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The same call; its wall and processor time are added up."""

    @wraps(call)
    def timed(*arguments: Any, **named: Any) -> Any:
        begin, cpu = time.perf_counter(), time.process_time()
        try:
            return call(*arguments, **named)
        finally:
            spent[0] += time.perf_counter() - begin
            spent[1] += time.process_time() - cpu

    return timed


if __name__ == "__main__":
    main()
