"""What a sweep costs besides training, and what it gains: on a machine that does nothing else.

    python benchmarks/ladder_scheduling.py [--rungs 100] [--steps 100] [--repeats 5] [--quick]

Scheduling: that many short rungs are trained for real by one-thread workers, one a core. Printed are the processor time
of the sweep's own process as a share of the workers' time, the share of it in which a worker had ended a run and waited
for its next, and both together (target: under 2 % for 100 rungs). A worker's time counts from when it has imported
torch to the end of its last run; what it waits after that, when nothing is left to start, is the ladder's tail and
printed beside, as is what a worker does for a run before and after its clock runs: open data, take the folder.

Speed: the same nano ladder by two one-thread workers and by one process with two threads, in turns; tokens/s of the
whole ladder from the first run's beginning to the last one's end, evaluations and checkpoints included. Printed are the
medians, their ratio (target: at least 1.25) and the range of the repeats' ratios.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ladder_text import nano_rung, write_shards
from msgspec import Struct

from isoflop.specs.recipe import Recipe
from isoflop.train import executors
from isoflop.train.cores import cores
from isoflop.train.executors import Asked, Inbox, Mail
from isoflop.train.executors.local import Local, Worker
from isoflop.train.protocol import Ended, Ready, Request
from isoflop.train.sweep import SweepEvent, sweep

WIDTHS = (32, 48, 64, 96)


class Clock:
    """When each seat was given a run and when it had ended it."""

    def __init__(self) -> None:
        self.given: dict[int, list[float]] = defaultdict(list)
        self.ended: dict[int, list[float]] = defaultdict(list)

    def idle_s(self) -> float:
        """Between an end and the next beginning, all seats together."""
        return sum(
            begin - end
            for seat, ends in self.ended.items()
            for end, begin in zip(ends, self.given[seat][1:], strict=False)
        )

    def present_s(self) -> float:
        """From the first beginning to the last end, all seats together."""
        return sum(ends[-1] - self.given[seat][0] for seat, ends in self.ended.items())

    def span_s(self) -> float:
        """From the first beginning of all to the last end."""
        return max(ends[-1] for ends in self.ended.values()) - min(begins[0] for begins in self.given.values())

    def tail_s(self) -> float:
        """What seats waited at the end."""
        last = max(ends[-1] for ends in self.ended.values())
        return sum(last - ends[-1] for ends in self.ended.values())


class ClockedWorker(Worker):
    """A worker whose runs are timed where its requests leave."""

    clock: Clock

    def send(self, request: Request) -> None:
        """Ask, and look at the clock."""
        self.clock.given[self.seat].append(time.perf_counter())
        super().send(request)


class ClockedInbox:
    """An inbox that looks at the clock when a run's end arrives."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox, self._clock = inbox, clock

    def put(self, mail: Mail) -> None:
        """Take in, in the thread that has heard it."""
        if isinstance(mail[1], Ready):
            self._clock.given[mail[0].seat][:1] = [time.perf_counter()]  # the first run was waiting for it
        if isinstance(mail[1], Ended):
            self._clock.ended[mail[0].seat].append(time.perf_counter())
        self._inbox.put(mail)


class Clocked(Local):
    """Processes of this machine with a clock."""

    def __init__(self, asked: Asked, clock: Clock) -> None:
        slices = cores().slices(workers=asked.workers, threads=asked.threads)
        super().__init__(threads=asked.threads, slices=slices, keep=asked.keep)
        self._clock = clock

    def hire(self, seat: int, *, inbox: Inbox) -> Worker:
        """A worker who is timed."""
        listening: Inbox = ClockedInbox(inbox, self._clock)  # type: ignore[assignment]
        worker = ClockedWorker(
            seat, threads=self._threads, inbox=listening, processors=self._slices[seat], keep=self._keep
        )
        worker.clock = self._clock
        return worker


class Timed(Struct, frozen=True, kw_only=True):
    """One sweep.

    Attributes:
        parent_s: processor time of the sweep's own process, its threads included.
        runs_s: that the runs themselves say they took.
    """

    clock: Clock
    parent_s: float
    n_tokens: float
    runs_s: float


def timed(recipes: Sequence[Recipe], *, workers: int, threads: int) -> Timed:
    """Train them in a fresh folder with a clock at hand."""
    clock, usual = Clock(), executors.start
    executors.start = lambda name, asked: Clocked(asked, clock)
    began = time.process_time()
    try:
        with tempfile.TemporaryDirectory() as folder:
            runs = sweep(
                recipes, runs_dir=Path(folder), workers=workers, threads=threads, peak_flop_per_s=1e11, on_event=_count
            )
    finally:
        executors.start = usual
    assert [run.status for run in runs] == ["finished"] * len(recipes)
    return Timed(
        clock=clock,
        parent_s=time.process_time() - began,
        n_tokens=sum(run.n_tokens for run in runs),
        runs_s=sum(run.wall_s or 0.0 for run in runs),
    )


def _count(event: SweepEvent) -> None:
    """As a bar would: look at what is told."""
    assert 0 <= event.fraction <= 1


def scheduling(shards: Path, *, rungs: int, steps: int) -> None:
    """The cost of many short rungs."""
    recipes = [nano_rung(shards, width=WIDTHS[i % len(WIDTHS)], steps=steps, seed=i) for i in range(rungs)]
    workers = cores().usable
    found = timed(recipes, workers=workers, threads=1)
    clock, present = found.clock, found.clock.present_s()
    own, idle = found.parent_s / present, clock.idle_s() / present
    print(f"{rungs} rungs of {steps} steps, {workers} one-thread workers, {clock.span_s():.1f} s")
    print(f"  the sweep's own processor time  {100 * own:.2f} %  ({1e3 * found.parent_s / rungs:.1f} ms a rung)")
    print(f"  workers between two runs        {100 * idle:.2f} %  ({1e3 * clock.idle_s() / rungs:.1f} ms a rung)")
    print(f"  together                        {100 * (own + idle):.2f} %  (target: under 2 %)")
    besides = present - clock.idle_s() - found.runs_s
    print(f"  beside a run, in its worker     {100 * besides / present:.2f} %  ({1e3 * besides / rungs:.1f} ms a rung)")
    print(f"  the tail, nothing left to start {100 * clock.tail_s() / present:.2f} %")


def speed(shards: Path, *, steps: int, repeats: int) -> None:
    """Two one-thread workers against one process with two threads."""
    sizes = [(width, seed) for width in WIDTHS for seed in range(2)]
    rates: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for threads in (1, 2) if repeat % 2 else (2, 1):
            recipes = [nano_rung(shards, width=width, steps=steps, threads=threads, seed=seed) for width, seed in sizes]
            found = timed(recipes, workers=2 // threads, threads=threads)
            rates[threads].append(found.n_tokens / found.clock.span_s())
    apart, together = (statistics.median(rates[threads]) for threads in (1, 2))
    ratios = sorted(a / b for a, b in zip(rates[1], rates[2], strict=True))
    print(f"nano ladder, {len(sizes)} rungs of {steps} steps, {repeats} repeats, whole ladder in tokens/s")
    for name, rate, all_rates in (
        ("two one-thread workers", apart, rates[1]),
        ("one process, 2 threads", together, rates[2]),
    ):
        print(f"  {name}   {rate:8.0f}   ({min(all_rates):.0f} to {max(all_rates):.0f})")
    print(f"  ratio x{apart / together:.2f}   (repeats x{ratios[0]:.2f} to x{ratios[-1]:.2f}; target: at least x1.25)")


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="of a rung")
    parser.add_argument("--repeats", type=int, default=5, help="of the comparison of speeds")
    parser.add_argument("--quick", action="store_true", help="see that it works; the numbers mean nothing")
    arguments = parser.parse_args()
    rungs, steps, repeats = (6, 20, 1) if arguments.quick else (arguments.rungs, arguments.steps, arguments.repeats)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", words=20_000 if arguments.quick else 400_000)
        scheduling(shards, rungs=rungs, steps=steps)
        speed(shards, steps=2 * steps, repeats=repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
