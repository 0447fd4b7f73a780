"""Is a fast step still the same step? Loss curves of isoflop's trainer against the plainest reference.

    python benchmarks/train_curve.py [--size 3x64] [--steps 300] [--seeds 3]

One text, one order, one first model; the reference (`train_reference`) shares no code with it. Prints the largest
and the mean difference of the two curves, nats per token: fp32 against fp32, each against fp64, bf16 against fp32, and
beside it what another seed of the first weights changes, on the same batches.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from msgspec import structs
from train_ours import recipe
from train_reference import Reference
from train_sizes import SIZES

from isoflop.data.batch import Batch
from isoflop.data.corpus import source
from isoflop.data.loader import Loader
from isoflop.data.shards import open_shards
from isoflop.data.tokenization import tokenize
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder
from isoflop.specs.recipe import Recipe
from isoflop.train.learner import Learner, reproducible

Curve = npt.NDArray[np.float64]


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="3x64")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    told = parser.parse_args()
    size = SIZES[told.size]
    with tempfile.TemporaryDirectory(prefix="isoflop-curve-") as place:
        fp32 = recipe(size, precision="fp32", threads=size.threads, shards=place, own=True, steps=told.steps)
        batches = read(Path(place), fp32)
    plain, truth = reference(fp32, batches, torch.float32), reference(fp32, batches, torch.float64)
    ours, half = curve(fp32, batches), curve(structs.replace(fp32, precision="bf16"), batches)
    others = [curve(structs.replace(fp32, seed=seed), batches) for seed in range(1, told.seeds)]
    print(
        f"{told.size}, {told.steps} steps of {size.batch_tokens} tokens, loss {ours[0]:.3f} to {ours[-10:].mean():.3f}"
    )
    print(f"{'nats per token':<44}{'largest':>10}{'mean':>10}{'last 50':>10}")
    show("isoflop fp32 against the reference in fp32", ours, plain)
    show("isoflop fp32 against the reference in fp64", ours, truth)
    show("the reference in fp32 against fp64", plain, truth)
    show("isoflop bf16 against isoflop fp32", half, ours)
    for seed, other in enumerate(others, start=1):
        show(f"isoflop fp32, seed {seed} against seed 0", other, ours)


def read(place: Path, run: Recipe) -> list[Batch]:
    """The first batches of the standard library's text."""
    tokenize(
        source(None).documents, folder=place, vocabulary=run.model.vocabulary, validation_fraction=0.05,
        source="benchmark",
    )  # fmt: skip
    loader = Loader(
        open_shards(place).tokens("train"), context=run.model.context, sequences=run.sequences, seed=run.seed
    )
    return [Batch(inputs_ST=x, targets_SU=y) for x, y in map(loader.batch, range(run.steps))]


def curve(run: Recipe, batches: list[Batch]) -> Curve:
    """Isoflop's losses."""
    assert run.optimizer.learning_rate is not None
    with reproducible(run):
        learner = Learner(run, peak_learning_rate=run.optimizer.learning_rate)
        return np.array([learner.step(step, batch).loss_nats for step, batch in enumerate(batches)])


def reference(run: Recipe, batches: list[Batch], dtype: torch.dtype) -> Curve:
    """The reference's, from the same first weights."""
    assert isinstance(run.model, Decoder)
    with reproducible(run):
        weights = dict(build(run.model, seed=run.seed).named_parameters())
        return np.array(Reference(run.model, weights, dtype=dtype).losses(batches, run.optimizer))


def show(what: str, one: Curve, other: Curve) -> None:
    """One line: the largest and the mean absolute difference, and the mean difference at the end."""
    gap = one - other
    print(f"{what:<44}{abs(gap).max():>10.2e}{abs(gap).mean():>10.2e}{gap[-50:].mean():>10.2e}")


if __name__ == "__main__":
    main()
