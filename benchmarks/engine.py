"""What bf16 and torch.compile gain in a training step on this machine: the row of `tables/engines.toml`.

    python benchmarks/engine.py [--threads 1] [--seconds 6] [--no-compile]

Each ratio is the median over pairs of neighbouring steps, one of each kind, so that whatever else runs on the machine
slows both alike. Prints one line per model and precision, and the row at the end: put it into a file, under
[engines.cpu] or [engines.cuda], and give that by $ISOFLOP_TABLES.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from msgspec.structs import replace

from isoflop.count.flops import flops_per_token
from isoflop.data.batch import Batch
from isoflop.specs.architecture import Decoder
from isoflop.specs.engine import Computed, Engine
from isoflop.specs.recipe import Recipe
from isoflop.train.learner import Learner, pick_device, reproducible

# layers, width, context, vocabulary, sequences
CPU = [
    (3, 64, 128, 1024, 4), (4, 128, 128, 1024, 16), (4, 192, 256, 2048, 8), (4, 256, 256, 4096, 8),
    (6, 384, 256, 8192, 8),
]  # fmt: skip
CUDA = [(6, 384, 1024, 8192, 32), (12, 768, 1024, 32768, 32), (16, 2048, 2048, 32768, 8)]


def recipe(shape: Sequence[int], *, threads: int) -> Recipe:
    layers, width, context, vocabulary, sequences = shape
    size = 32 if width < 256 else 64
    model = Decoder(
        layers=layers, width=width, heads=width // size, kv_heads=width // size, head_size=size,
        hidden=-(-width * 8 // 3 // 64) * 64, vocabulary=vocabulary, context=context,
    )  # fmt: skip
    tokens = sequences * context
    return Recipe(name="engine", shards="", model=model, n_tokens=tokens, batch_tokens=tokens, threads=threads)


def pairs(asked: Recipe, kinds: tuple[Engine, Engine], *, seconds: float) -> tuple[float, float, float]:
    """How many times as fast the second kind is, its best tokens a second, and its first step's seconds."""
    random = np.random.default_rng(0).integers(0, asked.model.vocabulary, (asked.sequences, asked.model.context + 1))
    batch = Batch(inputs_ST=random[:, :-1].copy(), targets_SU=random[:, 1:].copy())
    with reproducible(asked):
        learners = [Learner(asked, peak_learning_rate=1e-4, engine=kind) for kind in kinds]
        learners[0].step(0, batch)
        begin = time.perf_counter()
        learners[1].step(0, batch)
        cold_s = time.perf_counter() - begin
        took: list[list[float]] = [[], []]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(took[0]) < 4:
            for each, learner in zip(took, learners, strict=True):
                begin = time.perf_counter()
                learner.step(0, batch)
                each.append(time.perf_counter() - begin)
    ratio = statistics.median(a / b for a, b in zip(took[0][1:], took[1][1:], strict=True))
    return ratio, asked.batch_tokens / min(took[1]), cold_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    device = pick_device(recipe(CPU[0], threads=1)).type
    precisions: tuple[Computed, ...] = ("fp32", "bf16")
    bf16: list[list[float]] = []
    compiled: dict[Computed, list[list[float]]] = {each: [] for each in precisions}
    rates: dict[Computed, float] = {}
    colds: list[float] = []
    for shape in CPU if device == "cpu" else CUDA:
        asked = recipe(shape, threads=options.threads)
        plain = Engine(precision="fp32", compiled=False, rows=asked.sequences)
        gain, rate, _ = pairs(asked, (plain, replace(plain, precision="bf16")), seconds=options.seconds)
        bf16.append([shape[1], round(gain, 2)])
        flop = flops_per_token(asked.model, sequence=asked.model.context).total
        rates = {"fp32": rate * flop / gain / options.threads, "bf16": rate * flop / options.threads}
        print(f"{shape[0]}x{shape[1]}: bf16 x{gain:.2f} of fp32, {rate:.0f} tokens/s", flush=True)
        for precision in () if options.no_compile else precisions:
            eager = replace(plain, precision=precision)
            torch.compiler.reset()  # or a later shape meets the limit of recompilations
            gain, rate, cold_s = pairs(asked, (eager, replace(eager, compiled=True)), seconds=options.seconds)
            compiled[precision].append([shape[1], round(gain, 2)])
            colds.append(cold_s)
            print(f"{shape[0]}x{shape[1]}: {precision} compiled x{gain:.2f}, cold {cold_s:.1f} s", flush=True)
    print(f"\n[engines.{device}]\nbf16_gain = {bf16}")
    print(f"compile_gain = {{ {', '.join(f'{name} = {gains}' for name, gains in compiled.items())} }}")
    print(f"compile_cold_s = {statistics.median(colds) if colds else 0.0:.0f}")
    print(f"flop_per_s = {{ {', '.join(f'{name} = {rate:.2g}' for name, rate in rates.items())} }}")
    print(f'source = "benchmarks/engine.py on this machine, {options.threads} threads, torch {torch.__version__}"')


if __name__ == "__main__":
    main()
