"""isoflop's own contender in `benchmarks/train.py`: SIZE PRECISION THREADS SHARDS FOLDER [--own].

The whole of `isoflop train` and not its step alone: loader, journal, checkpoints, meter. The model is the peers' Llama;
`--own` gives it what our recipes have by default, QK-norm and z-loss.
"""

import argparse
from contextlib import suppress
from pathlib import Path

from train_gate import Gate
from train_sizes import BETA1, BETA2, CLIP_NORM, EPSILON, LEARNING_RATE, SIZES, WEIGHT_DECAY, Size

from isoflop.count.parameters import parameters
from isoflop.errors import StoppedError
from isoflop.specs.architecture import Decoder
from isoflop.specs.engine import Asked
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import Schedule
from isoflop.train.loop import train

_STEPS = 200_000  # more than any benchmark takes


def decoder(size: Size, *, own: bool = False) -> Decoder:
    """The model of the peers, or with what ours has besides."""
    return Decoder(
        layers=size.layers, width=size.width, heads=size.heads, kv_heads=size.kv_heads, head_size=size.head_size,
        hidden=size.hidden, vocabulary=size.vocabulary, context=size.context, qk_norm=own,
    )  # fmt: skip


def recipe(
    size: Size, *, precision: Asked, threads: int, shards: str, own: bool = False, steps: int = _STEPS
) -> Recipe:
    """The run of one contender, at a constant learning rate."""
    return Recipe(
        name="bench",
        shards=shards,
        model=decoder(size, own=own),
        n_tokens=steps * size.batch_tokens,
        batch_tokens=size.batch_tokens,
        optimizer=Optimizer(
            learning_rate=LEARNING_RATE, beta1=BETA1, beta2=BETA2, epsilon=EPSILON, weight_decay=WEIGHT_DECAY,
            clip_norm=CLIP_NORM, z_loss=1e-5 if own else 0.0, decay_on="matrices-and-embeddings",
        ),
        schedule=Schedule(warmup_fraction=0.0, cooldown_fraction=0.0),
        precision=precision,
        device="cpu",
        threads=threads,
        validation_tokens=size.context,
        evaluations=1,
    )  # fmt: skip


def main() -> None:
    """Train until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("threads", type=int)
    parser.add_argument("shards")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--own", action="store_true")
    told = parser.parse_args()
    run = recipe(
        SIZES[told.size], precision=told.precision, threads=told.threads, shards=told.shards, own=told.own
    )  # fmt: skip
    gate = Gate(n_params=parameters(run.model).total)
    with suppress(StoppedError):
        train(run, folder=told.folder, should_stop=lambda: not gate())


if __name__ == "__main__":
    main()
