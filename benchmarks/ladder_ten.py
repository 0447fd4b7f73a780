"""Ten small ladders on other texts and seeds: how often does the 90 % interval hold the kept-out run?

    python benchmarks/ladder_ten.py ../shared/data/text --runs-dir runs/ten --out ten.txt

The argument is a folder of texts. Ladder i takes text i and the seed 100 i; after each text by itself come mixes of two
neighbours. A text with fewer characters than the longest run takes tokens is left out and named. Each ladder is
`isoflop ladder` on a core of its own, as many at once as there are cores, so that none stands idle while a kept-out run
trains by itself. The kept-out run costs at least four times the dearest fitted one, and its forecast is on the disk
before it begins; a ladder whose forecast came later does not count as one that held.

A line is printed when a ladder ends; OUT is then written anew: the table, how many held, how likely so few are where
nine of ten hold, and every miss with its size. Ladders that ended are not climbed again; stopped anywhere, the same
command goes on.
"""

import argparse
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from math import comb, log
from pathlib import Path
from queue import SimpleQueue
from statistics import fmean, median
from types import FrameType
from typing import Any

from msgspec import Struct

from isoflop import stamp
from isoflop.errors import DivergedError, FitError, IsoflopError, PreemptedError
from isoflop.files import read_json, write_atomic, write_json
from isoflop.plan.trunks import Layout, laid, of_budget
from isoflop.specs import ladder_file
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.train.cores import cores

LEAST = 4.0  # kept-out compute over the dearest fitted run's
PLAN = Path(__file__).parents[1] / "recipes" / "ladders" / "minutes.toml"
SEEDS = 100  # from one ladder to the next; seeds of one ladder's repeats are neighbours
LOST = (FitError.exit_code, DivergedError.exit_code)  # ends of `isoflop ladder` that are a miss; others end the count
RESULT = "result.json"
TEXTS = (".txt", ".jsonl", ".jsonl.gz")


class Asked(Struct, frozen=True, kw_only=True):
    """One ladder: what a result is worth keeping for."""

    name: str
    texts: list[str]
    seed: int
    budget: float | None
    settings: list[str]
    plan: str


class Result(Struct, frozen=True, kw_only=True):
    """What became of a forecast.

    Attributes:
        forecast: the middle, the low and the high end of the 90 % interval, nats a token.
        reason: why nothing was measured; "" where it was.
        unique_tokens: of the text, to train on.
    """

    asked: Asked
    held: bool
    blind: bool = False
    forecast: tuple[float, float, float] | None = None
    measured: float | None = None
    n_params: float = 0.0
    n_tokens: float = 0.0
    unique_tokens: float = 0.0
    times_the_dearest: float = 0.0
    noise_sd: float | None = None
    misfit_sd: float | None = None
    rates_at_edge: int = 0
    compute_flop: float = 0.0
    wall_s: float = 0.0
    reason: str = ""
    schema: str = "isoflop/ladder-ten@1"

    @property
    def beyond(self) -> float:
        """Log distance from the measured loss to the interval; 0 inside."""
        assert self.forecast is not None
        assert self.measured is not None
        _, lo, hi = self.forecast
        return max(log(lo / self.measured), log(self.measured / hi), 0.0)


def main() -> int:
    """Climb them, as many at once as there are cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="folder of texts")
    parser.add_argument("--ladders", type=int, default=10)
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a key of the plan")
    parser.add_argument(
        "--budget", type=float, default=1e13, help="of each ladder, FLOP; a plan with smallest_params needs none"
    )
    parser.add_argument("--at-once", type=int, default=cores().usable)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/ten"))
    parser.add_argument("--out", type=Path, help="text file; default: ten.txt in the runs' folder")
    asked = parser.parse_args()
    try:
        plan = ladder_file.load(asked.plan, settings=asked.settings)
        budget = None if plan.smallest_params else asked.budget
        layout = laid_out(plan, budget)
    except IsoflopError as error:
        parser.error(str(error))
    texts = texts_in(asked.text, least_bytes=layout.longest_tokens)
    wanted = [
        Asked(
            name=f"{i:02d}-{'+'.join(text.name.partition('.')[0] for text in some)}",
            texts=[str(text) for text in some],
            seed=plan.seed + SEEDS * i,
            budget=budget,
            settings=asked.settings,
            plan=asked.plan.read_text(),
        )
        for i, some in enumerate(islice(mixes(texts), asked.ladders))
    ]
    if len(wanted) < asked.ladders:
        parser.error(f"{asked.text}: {len(texts)} texts make {len(wanted)} ladders with their pairs; give more texts")
    out = asked.out or asked.runs_dir / "ten.txt"
    return climb(wanted, asked.plan, asked.runs_dir, out, at_once=max(1, asked.at_once))


def laid_out(plan: LadderPlan, budget: float | None) -> Layout:
    """The ladder, whose proof is held against what is promised of it."""
    layout = laid(plan) if budget is None else of_budget(plan, budget)
    dearest = max(size.flop(point.steps) for size in layout.sizes for point in size.points)
    if (times := layout.proof.separate_flop() / dearest) < LEAST:
        raise SystemExit(f"the kept-out run costs {times:.4g} times the dearest fitted one, of which {LEAST:g} are the "
                         "least: raise it, such as --set held_out=4.1")  # fmt: skip
    for flagged in layout.flagged():
        print(f"flagged: {flagged}")
    return layout


def texts_in(folder: Path, *, least_bytes: float) -> list[Path]:
    """The texts that are long enough, by name; one token is a byte at least."""
    found = sorted(file for file in folder.iterdir() if file.name.endswith(TEXTS)) if folder.is_dir() else []
    long_enough = []
    for file in found:
        if (size := _bytes(file)) >= least_bytes:
            long_enough.append(file)
        else:
            print(f"left out: {file.name}, {size:.3g} bytes, shorter than the longest run, {least_bytes:.3g} tokens")
    if not long_enough:
        raise SystemExit(f"{folder}: no folder with long enough a text in it that ends in {', '.join(TEXTS)}")
    return long_enough


def _bytes(file: Path) -> int:
    if not file.name.endswith(".gz"):
        return file.stat().st_size
    with gzip.open(file) as text:
        return sum(len(block) for block in iter(lambda: text.read(1 << 20), b""))


def mixes(texts: list[Path]) -> Any:
    """Each by itself, then two neighbours, then those that lie further apart."""
    yield from ([text] for text in texts)
    for apart in range(1, len(texts) // 2 + 1):
        pairs = len(texts) if 2 * apart < len(texts) else apart
        yield from ([texts[i], texts[(i + apart) % len(texts)]] for i in range(pairs))


def climb(wanted: list[Asked], plan: Path, folder: Path, out: Path, *, at_once: int) -> int:
    """All that have not ended yet; the exit code is 0 where all have."""
    lanes: SimpleQueue[int | None] = SimpleQueue()
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for i in range(at_once):
        lanes.put(allowed[i % len(allowed)] if allowed else None)
    ladders = Ladders(plan, folder)
    for each in wanted:
        ladders.ended(each)  # of another call? Say so before anything begins
    signal.signal(signal.SIGTERM, _terminated)
    results: dict[str, Result] = {}
    with ThreadPoolExecutor(at_once, initializer=lambda: _settle(lanes)) as pool:
        try:
            for done in as_completed([pool.submit(ladders.climb, each) for each in wanted]):
                if (found := done.result()) is not None:
                    results[found.asked.name] = found
                    print(line(found), flush=True)
                    in_order = [results[each.name] for each in wanted if each.name in results]
                    write_atomic(out, table(in_order, of=len(wanted)).encode())
        except (KeyboardInterrupt, PreemptedError):
            ladders.stop()
            pool.shutdown(cancel_futures=True)
    if ladders.code:
        print(f"{len(results)} of {len(wanted)} ladders ended; the same command goes on", file=sys.stderr)
        return ladders.code
    print(table([results[each.name] for each in wanted], of=len(wanted)))
    return 0


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise PreemptedError("asked to end")


def _settle(lanes: "SimpleQueue[int | None]") -> None:
    """Bind a lane, and what it starts, to a core of its own."""
    if (core := lanes.get()) is not None:
        os.sched_setaffinity(0, {core})


class Ladders:
    """`isoflop ladder` in a folder each."""

    def __init__(self, plan: Path, folder: Path) -> None:
        self.code = 0
        self._plan, self._folder = plan, folder
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Have all save and end."""
        with self._lock:
            self.code = self.code or 130
            for process in self._processes:
                process.send_signal(signal.SIGTERM)

    def ended(self, asked: Asked) -> Result | None:
        """The result of an earlier call."""
        path = self._folder / asked.name / RESULT
        if not path.exists():
            return None
        result = read_json(path, Result)
        if result.asked != asked:
            raise SystemExit(f"{path.parent}: holds the ladder of another call; choose another --runs-dir")
        return result

    def climb(self, asked: Asked) -> Result | None:
        """One ladder to its end; None where it was stopped before."""
        place = self._folder / asked.name
        if (before := self.ended(asked)) is not None:
            return before
        place.mkdir(parents=True, exist_ok=True)
        with (place / "log.txt").open("a") as log:
            process = self._start(asked, place, log)
            if process is None:
                return None
            told, _ = process.communicate()
        with self._lock:
            self._processes.discard(process)
            if process.returncode and process.returncode not in LOST:
                self.code = self.code or process.returncode
                print(f"{asked.name}: exit code {process.returncode}, see {place / 'log.txt'}", file=sys.stderr)
                return None
        result = self._result(asked, place, told, process.returncode)
        write_json(place / RESULT, result)
        return result

    def _start(self, asked: Asked, place: Path, log: Any) -> "subprocess.Popen[str] | None":
        settings = [*asked.settings, f"seed={asked.seed}"]
        command = [
            sys.executable, "-m", "isoflop", "ladder", "--json", "--text", str(_text(asked, place)), "--runs-dir",
            str(place), "--plan", str(self._plan), *(word for setting in settings for word in ("--set", setting)),
            *([] if asked.budget is None else ["--budget", str(asked.budget)]),
        ]  # fmt: skip
        with self._lock:
            if self.code:
                return None
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
            self._processes.add(process)
        return process

    def _result(self, asked: Asked, place: Path, told: str, code: int) -> Result:
        if code:
            words = (place / "log.txt").read_text().strip().splitlines()
            return Result(asked=asked, held=False, reason=f"exit code {code}: {words[-1] if words else ''}")
        payload = json.loads(told)
        said, rates, noise = payload["forecast"], payload["learning_rate"], payload["noise"]
        proof = next(run for run in payload["runs"] if run["role"] == "held_out")
        dearest = max(run["compute_flop"] for run in payload["runs"] if run["role"] == "fit")
        return Result(
            asked=asked,
            held=bool(said["held"] and said["blind"]),
            blind=said["blind"],
            forecast=(said["loss_nats"], said["loss_nats_lo"], said["loss_nats_hi"]),
            measured=said["measured"],
            n_params=said["n_params"],
            n_tokens=said["n_tokens"],
            unique_tokens=_train_tokens(place),
            times_the_dearest=said["compute_flop"] / dearest,
            noise_sd=noise["sd"] if noise else None,
            misfit_sd=payload["misfit_sd"],
            rates_at_edge=len(rates["warnings"]) if rates else 0,
            compute_flop=payload["compute_flop"],
            wall_s=sum(payload["stages"].values()),
            reason="" if said["measured"] is not None else f"kept-out run {proof['status']}: {proof['note']}",
        )


def _text(asked: Asked, place: Path) -> Path:
    """The text, or a folder with the texts of a mix: links are not followed when a folder is read."""
    if len(asked.texts) == 1:
        return Path(asked.texts[0])
    mix = place / "text"
    mix.mkdir(exist_ok=True)
    for text in map(Path, asked.texts):
        if not (mix / text.name).exists():
            shutil.copyfile(text, mix / f".{text.name}")
            (mix / f".{text.name}").rename(mix / text.name)
    return mix


def _train_tokens(place: Path) -> float:
    from isoflop.data.shards import open_shards

    return float(open_shards(place / "shards").header.splits["train"].n_tokens)


def line(result: Result) -> str:
    """One ladder in a row of the table."""
    name = f"{result.asked.name:<46} {result.asked.seed:>4}"
    if result.measured is None or result.forecast is None:
        return f"{name}  MISS, nothing measured: {result.reason}"
    middle, lo, hi = result.forecast
    spread = f"{result.noise_sd:6.2%}" if result.noise_sd is not None else f"{'':6}"
    misfit = f"{result.misfit_sd:6.2%}" if result.misfit_sd is not None else f"{'':6}"
    end = "held" if result.held else f"MISS by {result.beyond:.2%}" if result.blind else "MISS, not blind"
    return (
        f"{name} {result.n_params / 1e3:5.0f}K {result.n_tokens / 1e6:5.2f}M {result.times_the_dearest:5.2f}x "
        f"{middle:7.4f} {lo:7.4f} {hi:7.4f} {result.measured:8.4f} {middle / result.measured - 1:+7.2%} "
        f"{spread} {misfit} {result.wall_s:5.0f} s  {end}"
    )


HEAD = (
    f"{'ladder':<46} seed      N      D   C/C' forecast    lo      hi measured   error  noise misfit    time  interval"
)


def table(results: list[Result], *, of: int) -> str:
    """The rows, what they come to, and every miss."""
    first = results[0].asked
    rows = [*map(line, results)]
    held, total = sum(result.held for result in results), len(results)
    chance = sum(comb(total, k) * 0.9**k * 0.1 ** (total - k) for k in range(held + 1))
    measured = [result for result in results if result.measured is not None and result.forecast is not None]
    errors = [log(result.forecast[0] / result.measured) for result in measured]  # type: ignore[index,operator]
    widths = [log(result.forecast[2] / result.forecast[1]) for result in measured]  # type: ignore[index]
    misses = [line(result) for result in results if not result.held]
    about = stamp.make({})
    said = [
        f"{total} of {of} ladders, each with a seed of its own; losses in nats a token.",
        "N, D: of the kept-out run; C/C': its compute over the dearest fitted one's; lo, hi: its 90 % interval,",
        "written before it began; error: forecast over measured; noise: between seeds; misfit: of the law at its own",
        "points; time: of the ladder on one core.",
        f"isoflop {about.isoflop}, {about.machine}, {about.time[:10]}",
        "",
        HEAD,
        *rows,
        "",
        f"held: {held} of {total}; where 9 of 10 hold, so few or fewer come about in {chance:.0%} of cases",
        f"text read more than once: {sum(r.n_tokens > r.unique_tokens for r in measured)} kept-out runs; "
        f"best learning rate at the edge of those tried: {sum(r.rates_at_edge > 0 for r in measured)} ladders; "
        f"{sum(r.compute_flop for r in measured):.3g} FLOP in all",
    ]
    if measured:
        said.append(
            f"error of the forecast: median {median(map(abs, errors)):.2%} without sign, mean {fmean(errors):+.2%}; "
            f"width of the interval: median {median(widths):.1%}"
        )
    return "\n".join([*said, *(["", "misses:", *misses] if misses else ["no misses"]), "", _plan(first), ""])


def _plan(first: Asked) -> str:
    settings = "".join(f"\n--set {setting}" for setting in first.settings)
    kept = [row for row in first.plan.splitlines() if row.strip() and not row.startswith("#")]
    budget = "" if first.budget is None else f" for {first.budget:.3g} FLOP"
    return f"plan{budget}:\n" + "\n".join(kept) + settings


if __name__ == "__main__":
    sys.exit(main())
