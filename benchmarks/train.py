"""Training speed beside nanoGPT's shape, litgpt, transformers and HF's Trainer, in one run: `make bench-train`.

    python benchmarks/train.py --peers-python .venv-bench/bin/python [--quick] [--size 6x384] [--condition bf16] ...

Every contender is a process of its own and trains the same batches with the same optimizer settings. They take turns in
rounds (A B C, A B C, ...), so that a change of the machine's mood meets all alike; ratios are taken within a round.

Conditions:
    default  each as it runs by itself: peers fp32, torch's own threads, no allocator setting; isoflop as
             `isoflop train` launches itself, with `precision = "auto"`, and in fp32 beside it.
    bf16     bf16 autocast for all, in the training environment (allocator, threads) for all.
    equal    fp32 for all, in the training environment for all.

MFU is of the work of the peers' Llama against torch's own matmul rate in that precision, measured in the same run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_ours import decoder, recipe
from train_sizes import SIZES, Size

from isoflop.count.flops import flops_per_token
from isoflop.data.corpus import source
from isoflop.data.loader import Loader
from isoflop.data.shards import open_shards
from isoflop.data.tokenization import tokenize
from isoflop.train.engine import settle
from isoflop.train.environment import worker_environment

HERE = Path(__file__).parent
PEERS = ("nanogpt", "litgpt", "transformers", "trainer")
CONDITIONS = ("default", "bf16", "equal")
BATCHES = 32
WANTED = {
    ("6x384", "default"): ("the best peer", PEERS, 2.0),
    ("6x384", "bf16"): ("Hugging Face's Trainer", ("trainer",), 1.1),
    ("6x384", "equal"): ("the best peer", PEERS, 0.97),
    ("4x128", "default"): ("the best peer", PEERS, 1.0),
    ("4x128", "equal"): ("the best peer", PEERS, 1.0),
    ("3x64", "default"): ("the best peer", PEERS, 1.0),
    ("3x64", "equal"): ("the best peer", PEERS, 1.0),
}
"""Against whom, and how many times as fast."""
_PEAK = """
import sys
from isoflop.train.meter import measure_matmul
print(measure_matmul(threads=int(sys.argv[1]), precision=sys.argv[2], seconds=1.0))
"""


@dataclass(kw_only=True)
class Contender:
    """A training process and what it has told.

    Attributes:
        ours: to be held against the others.
        rounds: one report each: steps, wall_s, cpu_s, peak_bytes.
    """

    name: str
    precision: str
    threads: int
    command: list[str]
    environment: dict[str, str]
    ours: bool = False
    n_params: int = 0
    rounds: list[dict[str, float]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def start(self, stack: ExitStack, log: Path) -> None:
        """Begin; it says so itself when it is warm."""
        process = subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("w")), text=True,
        )  # fmt: skip
        self.process = process
        stack.callback(self._end, process)

    def heard(self, log: Path) -> dict[str, float]:
        """Its next message."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended: {' '.join(self.command)}\n{log.read_text()[-2000:]}")
        message: dict[str, float] = json.loads(line)
        return message

    def ask(self, seconds: float) -> None:
        """Let it train."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def rates(self, size: Size, per: str = "wall_s") -> list[float]:
        """Tokens a second of each round."""
        return [each["steps"] * size.batch_tokens / each[per] for each in self.rounds]

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        process.stdin.close()  # the end of its input is the end of it
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def main() -> None:
    """Measure and print."""
    told = arguments()
    began = time.perf_counter()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="isoflop-bench-") as place:
        for name in told.size:
            size = SIZES[name]
            shards, batches = data(Path(place), size)
            for condition in told.condition:
                for threads in told.threads or [size.threads]:
                    bench = contenders(told, name, condition, threads, shards, batches)
                    with ExitStack() as stack:
                        run(bench, stack, Path(place), rounds=told.rounds, seconds=told.seconds)
                    table(name, condition, threads, bench)
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes, load at the end {os.getloadavg()[0]:.1f}")


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=".venv-bench/bin/python", help="python of the peers' environment")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas between")
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--condition", action="append", choices=CONDITIONS)
    parser.add_argument("--threads", action="append", type=int, help="of isoflop, and of all but in `default`")
    parser.add_argument("--rounds", type=int, help="default 4, with --quick 2")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a contender in a round, two steps at least")
    parser.add_argument("--compile", action="store_true", help="also the peers under torch.compile")
    parser.add_argument("--quick", action="store_true", help="6x384 and 3x64, as each runs by default")
    told = parser.parse_args()
    told.peers = told.peers.split(",")
    told.rounds = told.rounds or (2 if told.quick else 4)
    told.size = told.size or (["6x384", "3x64"] if told.quick else list(SIZES))
    told.condition = told.condition or (["default"] if told.quick else list(CONDITIONS))
    return told


def data(place: Path, size: Size) -> tuple[Path, Path]:
    """The standard library's text as shards for isoflop, and its first batches as an array for the peers."""
    shards, batches = place / f"shards-{size.vocabulary}", place / f"{size.vocabulary}-{size.context}.npy"
    if not (shards / "shards.json").exists():
        origin = source(None)
        tokenize(
            origin.documents, folder=shards, vocabulary=size.vocabulary, validation_fraction=0.05, source="benchmark"
        )
    loader = Loader(open_shards(shards).tokens("train"), context=size.context, sequences=size.sequences, seed=0)
    np.save(batches, np.stack([np.concatenate((x, y[:, -1:]), axis=1) for x, y in map(loader.batch, range(BATCHES))]))
    return shards, batches


def chosen(size: Size, threads: int) -> str:
    """What `precision = "auto"` comes to here for this size."""
    return settle(recipe(size, precision="auto", threads=threads, shards=""), torch.device("cpu")).precision


def contenders(
    told: argparse.Namespace, name: str, condition: str, threads: int, shards: Path, batches: Path
) -> list[Contender]:
    """Who runs, and how."""
    alike = {**os.environ, **worker_environment(threads)}
    by_itself = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_", "MALLOC_"))}
    precision = "bf16" if condition == "bf16" else "fp32"
    out = []
    for compiled in (False, True) if told.compile else (False,):
        for peer in told.peers:
            command = [told.peers_python, str(HERE / "train_peers.py"), peer, name, precision, str(batches)]
            command += [str(batches.parent / f"out-{peer}"), *(["--compile"] if compiled else [])]
            title = f"{peer}, compiled" if compiled else peer
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            free = condition == "default"
            out.append(
                Contender(
                    name=title, precision=precision, threads=cores if free else threads, command=command,
                    environment=by_itself if free else alike,
                )
            )  # fmt: skip
    ours = [precision] if condition != "default" else sorted({precision, chosen(SIZES[name], threads)}, reverse=True)
    kinds = [(each, False) for each in ours] + ([(precision, True)] if condition == "equal" else [])
    for each, own in kinds:
        folder = batches.parent / f"runs-{name}-{condition}-{threads}-{each}-{own}"
        command = [sys.executable, str(HERE / "train_ours.py"), name, each, str(threads), str(shards), str(folder)]
        title = "isoflop" + (", QK-norm, z-loss" if own else "")
        command += ["--own"] if own else []
        out.append(
            Contender(name=title, precision=each, threads=threads, command=command, environment=alike, ours=True)
        )
    return out


def run(bench: Sequence[Contender], stack: ExitStack, place: Path, *, rounds: int, seconds: float) -> None:
    """Start all, then let them take turns."""
    logs = [place / f"{i}.log" for i in range(len(bench))]
    for each, log in zip(bench, logs, strict=True):
        each.start(stack, log)
    for each, log in zip(bench, logs, strict=True):
        each.n_params = int(each.heard(log)["n_params"])
    for _ in range(rounds):
        for each, log in zip(bench, logs, strict=True):
            each.ask(seconds)
            each.rounds.append(each.heard(log))


def table(name: str, condition: str, threads: int, bench: Sequence[Contender]) -> None:
    """What came of one condition."""
    size = SIZES[name]
    flop = flops_per_token(decoder(size), sequence=size.context).total
    peaks = {key: peak(*key) for key in {(each.threads, each.precision) for each in bench}}
    print(f"\n{name}, {condition}: batch {size.sequences} x {size.context}, vocabulary {size.vocabulary}, ", end="")
    print(f"{flop / 1e6:.1f} MFLOP a token; {len(bench[0].rounds)} rounds")
    print(
        f"{'':<26}{'':>6}{'threads':>8}{'params':>12}{'tokens/s':>10}{'(range)':>18}{'a CPU s':>9}{'MFU':>7}{'MB':>7}"
    )
    for each in bench:
        rates = each.rates(size)
        middle = statistics.median(rates)
        mfu = middle * flop / peaks[each.threads, each.precision]
        span = f"({min(rates):.0f} to {max(rates):.0f})"
        a_cpu_s, peak_mb = statistics.median(each.rates(size, "cpu_s")), each.rounds[-1]["peak_bytes"] / 1e6
        print(
            f"{each.name:<26}{each.precision:>6}{each.threads:>8}{each.n_params:>12,}{middle:>10.0f}{span:>18}"
            f"{a_cpu_s:>9.0f}{mfu:>7.1%}{peak_mb:>7.0f}"
        )
    print("matmul: " + ", ".join(f"{p} x {t}: {rate / 1e9:.0f} GFLOP/s" for (t, p), rate in sorted(peaks.items())))
    for line in verdicts(name, condition, bench):
        print(line)


def verdicts(name: str, condition: str, bench: Sequence[Contender]) -> Iterator[str]:
    """Each of ours against whom it is to beat, within each round."""
    size = SIZES[name]
    title, rivals, wanted = WANTED.get((name, condition), ("the best peer", PEERS, None))
    against = [each for each in bench if each.name.split(",")[0] in rivals]
    if not against:
        return
    best = max(against, key=lambda each: statistics.median(each.rates(size)))
    for each in (each for each in bench if each.ours):
        ratios = [a / b for a, b in zip(each.rates(size), best.rates(size), strict=True)]
        middle = statistics.median(ratios)
        asked = "" if wanted is None else f", wanted {wanted}: {'held' if middle >= wanted else 'missed'}"
        print_name = f"{each.name}, {each.precision}"
        yield f"{print_name}: x{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of {title}, {best.name}{asked}"


def peak(threads: int, precision: str) -> float:
    """Torch's own matmul, FLOP/s."""
    command = [sys.executable, "-c", _PEAK, str(threads), precision]
    found = subprocess.run(
        command, env={**os.environ, **worker_environment(threads)}, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(found.stdout)


def machine() -> str:
    """What it runs on."""
    import torch

    name = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines: list[Any] = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
