"""Does one learning rate, tuned at the smallest rung, hold at the largest? Widths and depths, three parametrisations.

    python benchmarks/transfer.py --runs-dir transfer-runs                        # about 25 minutes on two quiet cores
    python benchmarks/transfer.py --runs-dir transfer-runs --axes depth --tokens 100000 --seeds 1

Decoders with heads of 16 and a hidden width of 3 widths learn Python's standard library (or --text) on equal tokens and
steps. Every rung is trained at learning rates a factor 2 apart, then at the best one and its two neighbours with more
seeds. The optimum is where the parabola through these three, in log rate and the mean of the seeds, is lowest; its
error is the jackknife's over seeds. The base is the smallest rung, where all parametrisations are one and the same run;
so are "standard" and "mup" at every depth, and "mup" is left out there. Interrupted, the same command goes on. Losses
are those of the validation text, and do not depend on how busy the machine is.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isoflop.data import corpus
from isoflop.data.tokenization import tokenize
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.parametrisation import Parametrisation, ParametrisationName
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.specs.schedule import Schedule
from isoflop.train.cores import cores
from isoflop.train.sweep import SweepEvent, sweep

WIDTHS, LAYERS = (32, 64, 128, 256), 2
DEPTHS, WIDTH = (2, 4, 8, 16), 64
RATES = tuple(2.0**k for k in range(-10, -3))
HEAD_SIZE, VOCABULARY, CONTEXT, BATCH_TOKENS = 16, 512, 128, 512
TARGET = 1.5


class Rung(NamedTuple):
    """One size on one axis; the first of its axis is the base."""

    axis: str
    width: int
    layers: int

    @property
    def size(self) -> int:
        """What varies."""
        return self.width if self.axis == "width" else self.layers


class Question(NamedTuple):
    """One line of the answer: a parametrisation on an axis, at one rung."""

    name: ParametrisationName
    rung: Rung


class Optimum(NamedTuple):
    """The best rate of one rung.

    Attributes:
        rate: at the parabola's vertex.
        error: of log2 of it, from the seeds; NaN from one.
        loss_nats: mean of the best rate tried.
        inside: the best rate tried has neighbours on both sides.
    """

    rate: float
    error: float
    loss_nats: float
    inside: bool


def rungs(axis: str) -> list[Rung]:
    """From the base to the largest."""
    if axis == "width":
        return [Rung(axis, width, LAYERS) for width in WIDTHS]
    return [Rung(axis, WIDTH, layers) for layers in DEPTHS]


def questions(names: Sequence[ParametrisationName], axes: Sequence[str]) -> list[Question]:
    """All that is asked; by depth "mup" is "standard"."""
    return [
        Question(name, rung)
        for axis in axes
        for name in names
        if axis == "width" or name != "mup"
        for rung in rungs(axis)
    ]


class Bench:
    """The runs that there are, and how more are made."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.folder: Path = arguments.runs_dir
        self.tokens: int = arguments.tokens
        self.runs: dict[tuple[Question, float, int], Run] = {}
        source = corpus.source(arguments.text)
        tokenize(
            source.documents,
            folder=self.folder / "shards",
            vocabulary=VOCABULARY,
            validation_fraction=0.08,
            source=source.description,
        )

    def recipe(self, question: Question, rate: float, seed: int) -> Recipe:
        """The run of one rate and seed."""
        rung, base = question.rung, rungs(question.rung.axis)[0]
        standard = question.name == "standard" or rung == base
        depth = question.name == "completep"
        return Recipe(
            name=f"{question.name}-w{rung.width}-l{rung.layers}-{rate:.2g}-{seed}",
            shards=str(self.folder / "shards"),
            model=Decoder(
                layers=rung.layers, width=rung.width, heads=rung.width // HEAD_SIZE, kv_heads=rung.width // HEAD_SIZE,
                head_size=HEAD_SIZE, hidden=3 * rung.width, vocabulary=VOCABULARY, context=CONTEXT,
            ),
            n_tokens=self.tokens,
            batch_tokens=BATCH_TOKENS,
            optimizer=Optimizer(learning_rate=rate, beta2=0.99),
            schedule=Schedule(cooldown_fraction=0.4),
            parametrisation=Parametrisation()
            if standard
            else Parametrisation(
                name=question.name, base_width=base.width, base_layers=base.layers if depth else None
            ),
            seed=seed,
            device="cpu",
            validation_tokens=65_536,
            evaluations=1,
        )  # fmt: skip

    def train(self, wanted: Sequence[tuple[Question, float, int]]) -> None:
        """Those that there are not yet, one process a core."""
        missing = [each for each in wanted if each not in self.runs]
        if not missing:
            return
        found = sweep(
            [self.recipe(*each) for each in missing],
            runs_dir=self.folder,
            workers=len(cores().slices(workers=2, threads=1)),
            threads=1,
            peak_flop_per_s=None,
            on_event=tell,
        )
        self.runs.update(zip(missing, found, strict=True))

    def loss(self, question: Question, rate: float, seed: int) -> float:
        """Of the validation text; infinite where the run diverged."""
        loss_nats = self.runs[question, rate, seed].loss_nats
        return math.inf if loss_nats is None else loss_nats

    def mean(self, question: Question, rate: float, seeds: int) -> float:
        """Over the seeds; infinite where one is missing, as it is for rates far from the best."""
        known = [s for s in range(seeds) if (question, rate, s) in self.runs]
        return float(np.mean([self.loss(question, rate, s) for s in known])) if len(known) == seeds else math.inf

    def best(self, question: Question, seeds: int) -> int:
        """Which of the rates is best, by the mean over these seeds."""
        return int(np.argmin([self.mean(question, rate, seeds) for rate in RATES]))

    def around(self, question: Question, seeds: int) -> tuple[float, ...]:
        """The best rate with its neighbours."""
        at = self.best(question, seeds)
        return RATES[max(0, at - 1) : at + 2]

    def optimum(self, question: Question, seeds: int) -> Optimum:
        """Where the parabola is lowest."""
        near, rate = self.around(question, seeds), RATES[self.best(question, seeds)]
        best = self.mean(question, rate, seeds)
        if len(near) < 3:
            return Optimum(rate, math.nan, best, False)
        losses = np.array([[self.loss(question, rate, seed) for rate in near] for seed in range(seeds)])
        middle = vertex(losses.mean(0))
        left_out = [vertex(np.delete(losses, seed, axis=0).mean(0)) for seed in range(seeds)] if seeds > 1 else []
        error = math.sqrt((seeds - 1) * float(np.var(left_out))) if left_out else math.nan
        return Optimum(rate * 2.0**middle, error, best, True)


def vertex(losses: np.ndarray) -> float:
    """Where the parabola through losses at -1, 0 and 1 has its minimum; the middle one is the lowest, or nearly so."""
    low, middle, high = losses
    return float((low - high) / (2 * (low + high - 2 * middle)))


def measure(bench: Bench, asked: Sequence[Question], *, seeds: int) -> None:
    """Every rate once, then more seeds around the best until the best of all seeds has neighbours of all seeds."""
    bench.train([(question, rate, 0) for question in asked for rate in RATES])
    while True:
        wanted = [
            (question, rate, seed)
            for question in asked
            for rate in {*bench.around(question, 1), *bench.around(question, seeds)}
            for seed in range(seeds)
        ]
        if all(each in bench.runs for each in wanted):
            return
        bench.train(wanted)


def report(bench: Bench, asked: Sequence[Question], *, seeds: int) -> str:
    """Losses, optima and how far they move."""
    lines = []
    for axis in dict.fromkeys(question.rung.axis for question in asked):
        for name in dict.fromkeys(question.name for question in asked if question.rung.axis == axis):
            rows = [question for question in asked if question.rung.axis == axis and question.name == name]
            lines += [*_table(bench, rows, seeds), ""]
    return "\n".join(lines)


def _table(bench: Bench, rows: Sequence[Question], seeds: int) -> list[str]:
    name, axis = rows[0].name, rows[0].rung.axis
    lines = [f"{name}, by {axis}", f"{axis:>6}" + "".join(f"{rate:>9.4f}" for rate in RATES) + "   best rate    loss"]
    found = [bench.optimum(question, seeds) for question in rows]
    for question, best in zip(rows, found, strict=True):
        cells = [_cell(bench, question, rate, seeds) for rate in RATES]
        said = f"{best.rate:.4f}{_factor(best.error)}" if best.inside else f"{best.rate:.4f} at the edge"
        lines.append(f"{question.rung.size:>6}" + "".join(cells) + f"   {said}  {best.loss_nats:.4f}")
    moved = found[-1].rate / found[0].rate
    apart = max(moved, 1 / moved)
    error = math.hypot(found[0].error, found[-1].error)
    whole = "" if found[0].inside and found[-1].inside else ", roughly: an optimum is at the edge of the rates tried"
    lines.append(
        f"from the smallest to the largest the optimum moves by a factor {apart:.2f}{_factor(error)}{whole}"
        f" ({'up' if moved > 1 else 'down'}; target < {TARGET})"
    )
    rates = [best.rate for best in found]
    lines.append(f"all rungs lie within a factor {max(rates) / min(rates):.2f}")
    carried = RATES[bench.best(rows[0], seeds)]
    cost = _known(bench, rows[-1], carried, seeds) - found[-1].loss_nats
    lines.append(f"the smallest one's best rate tried, {carried:.4f}, costs the largest {cost:.4f} nats")
    return lines


def _factor(error: float) -> str:
    """One sigma, from the seeds if there are several."""
    return f" x/{2**error:.2f}" if math.isfinite(error) else ""


def _known(bench: Bench, question: Question, rate: float, seeds: int) -> float:
    mean = bench.mean(question, rate, seeds)
    return mean if math.isfinite(mean) else bench.loss(question, rate, 0)


def _cell(bench: Bench, question: Question, rate: float, seeds: int) -> str:
    loss_nats = _known(bench, question, rate, seeds)
    return f"{loss_nats:>9.4f}" if math.isfinite(loss_nats) else " diverged"


def tell(event: SweepEvent) -> None:
    """A line at the end of a run."""
    if event.kind in ("finished", "diverged", "failed", "retry"):
        eta = f", {event.eta_s / 60:.0f} min left" if event.eta_s else ""
        print(f"{event.done}/{event.total} {event.run_id} {event.loss_nats or event.reason}{eta}", flush=True)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "transfer.txt")
    parser.add_argument("--tokens", type=int, default=250_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--axes", nargs="+", default=["width", "depth"], choices=["width", "depth"])
    names: tuple[ParametrisationName, ...] = ("standard", "mup", "completep")
    parser.add_argument("--parametrisations", nargs="+", default=names, choices=names)
    arguments = parser.parse_args()
    asked = questions(arguments.parametrisations, arguments.axes)
    bench = Bench(arguments)
    measure(bench, asked, seeds=arguments.seeds)
    steps = arguments.tokens // BATCH_TOKENS
    head = (
        f"{arguments.tokens} tokens in {steps} steps of {BATCH_TOKENS}, vocabulary {VOCABULARY}, {arguments.seeds} "
        f"seeds at the best rates and their neighbours; widths at {LAYERS} layers, depths at width {WIDTH}.\n"
        "Loss in nats of the validation text by peak learning rate, and the best rate with its one-sigma factor.\n\n"
    )
    text = head + report(bench, asked, seeds=arguments.seeds)
    print(text)
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
