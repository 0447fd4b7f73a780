"""A decoder of a billion parameters on one GPU: tokens/s, MFU, and peak memory beside `isoflop count memory`.

    python benchmarks/train_gpu.py [--sequences 4] [--steps 20] [--recompute none] [--no-compile]

The shape of Llama 3.2 1B at sequence 4,096, bf16 over fp32 weights, fused AdamW, chunked loss, compiled blocks.
Random tokens: the time of a dense step does not depend on them. MFU is of the step's model FLOP (attention as a full
square) against torch's own matmul rate, measured before.
"""

import argparse
import statistics
import sys
import time

import numpy as np
import torch
from msgspec import structs

from isoflop.count.flops import flops_per_token
from isoflop.count.memory_peak import memory
from isoflop.count.parameters import parameters
from isoflop.data.batch import Batch
from isoflop.specs.architecture import Decoder
from isoflop.specs.layout import Layout, Training
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train.compiled import compile_blocks
from isoflop.train.learner import Learner, reproducible
from isoflop.train.meter import measure_matmul

SHAPE = Decoder(
    layers=16, width=2048, heads=32, kv_heads=8, head_size=64, hidden=8192, vocabulary=128_256, context=4096,
    qk_norm=False, rope_theta=500_000.0, norm_epsilon=1e-5,
)  # fmt: skip
WARM = 5  # compiling among them


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=4, help="of one step, all at once")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--recompute", choices=["none", "selective", "full"], default="none")
    parser.add_argument("--no-compile", action="store_true")
    told = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("train_gpu: torch sees no CUDA device here, and this measures one; on a CPU: make bench-train")
    peak = measure_matmul(threads=1, precision="bf16", device="cuda", seconds=3.0)
    run = recipe(sequences=told.sequences, recompute=told.recompute)
    with reproducible(run):
        torch.use_deterministic_algorithms(False)  # the speed of what users run without asking for equal bits
        took = steps(run, count=told.steps, compiled=not told.no_compile)
    report(run, took, peak_flop_per_s=peak)


def recipe(*, sequences: int, recompute: str) -> Recipe:
    """One step of so many sequences."""
    plain = Recipe(
        name="gpu", shards="", model=SHAPE, n_tokens=10**9, batch_tokens=sequences * SHAPE.context, precision="bf16",
        device="cuda", optimizer=Optimizer(learning_rate=1e-4, beta2=0.95),
    )  # fmt: skip
    return structs.replace(plain, recompute=recompute)


def steps(run: Recipe, *, count: int, compiled: bool) -> list[float]:
    """Seconds of each step, the first few left out; the peak of memory is of the rest alone."""
    random = np.random.default_rng(run.seed)
    learner = Learner(run, peak_learning_rate=1e-4)
    if compiled:
        compile_blocks(learner.model)
    took = []
    for step in range(WARM + count):
        if step == WARM:
            torch.cuda.reset_peak_memory_stats()
        ids = random.integers(0, run.model.vocabulary, (run.sequences, run.model.context + 1))
        batch = Batch(inputs_ST=ids[:, :-1].copy(), targets_SU=ids[:, 1:].copy())
        torch.cuda.synchronize()
        begin = time.perf_counter()
        learner.step(step, batch)  # reads its loss, so it has ended
        took.append(time.perf_counter() - begin)
    return took[WARM:]


def report(run: Recipe, took: list[float], *, peak_flop_per_s: float) -> None:
    """What a step came to, and what was counted before."""
    step_s = statistics.median(took)
    flop = flops_per_token(run.model, sequence=run.model.context).total * run.batch_tokens
    layout = Layout(
        sharding="ddp", devices=1, micro_batch=run.sequences, sequence=run.model.context, recompute=run.recompute
    )
    counted = memory(run.model, layout, Training(precision="bf16", loss_head="chunked"))
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {parameters(run.model).total:,} parameters")
    print(f"{run.sequences} x {run.model.context} tokens, bf16, recompute {run.recompute}, {len(took)} steps")
    print(f"step {step_s * 1e3:.0f} ms ({min(took) * 1e3:.0f} to {max(took) * 1e3:.0f})")
    print(f"{run.batch_tokens / step_s:,.0f} tokens/s, {flop / step_s / 1e12:.0f} TFLOP/s")
    print(f"MFU {flop / step_s / peak_flop_per_s:.1%} of torch's matmul, {peak_flop_per_s / 1e12:.0f} TFLOP/s")
    gigabytes = [
        each / 1e9
        for each in (
            torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(),
            counted.tensors_bytes, counted.total_bytes, counted.lo_bytes, counted.hi_bytes,
        )
    ]  # fmt: skip
    line = "memory: allocated {:.2f} GB, reserved {:.2f}; counted {:.2f}, reserved {:.2f} ({:.2f} to {:.2f})"
    print(line.format(*gigabytes))


if __name__ == "__main__":
    main()
