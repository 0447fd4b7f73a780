"""What share of a run's time its checkpoints take, written beside training and while it waits.

    python benchmarks/checkpoint_cost.py [--width 512] [--layers 8] [--steps 12] [--every 4]

Trains the same few steps three times: without a checkpoint in between, with them written beside training, and with
training waiting. Prints what a checkpoint holds, how long training stood still for each and what the steps took.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from isoflop.count.parameters import parameters
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.specs.architecture import Decoder
from isoflop.specs.divergence import Divergence
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.saving import Saving
from isoflop.train import keeper
from isoflop.train.events import Event
from isoflop.train.keeper import Keeper
from isoflop.train.loop import train

CONTEXT = 128


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("width", 512), ("layers", 8), ("steps", 12), ("every", 4), ("batch", 1024)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        recipe = _recipe(Path(place), arguments)
        n_params = parameters(recipe.model).total
        print(f"{n_params / 1e6:.1f}M parameters, {12 * n_params / 1e6:.0f} MB a checkpoint, {recipe.steps} steps")
        often = {"every_steps": arguments.every, "keep": 1}
        for title, saving in (
            ("none between", Saving(every_steps=10**9)),
            ("beside", Saving(**often)),
            ("waiting", Saving(**often, background=False)),
        ):
            _measure(title, replace(recipe, checkpoint=saving), Path(place) / title)
    return 0


def _measure(title: str, recipe: Recipe, folder: Path) -> None:
    held: list[float] = []
    whole = Keeper.save

    def timed(*arguments: object, **options: object) -> None:
        began = time.perf_counter()
        whole(*arguments, **options)  # type: ignore[arg-type]
        held.append(time.perf_counter() - began)

    times: dict[int, float] = {}

    def hear(event: Event) -> None:
        times.setdefault(event.step, time.perf_counter())

    keeper.Keeper.save = timed  # type: ignore[method-assign]
    try:
        run = train(recipe, folder=folder, on_event=hear)
    finally:
        keeper.Keeper.save = whole  # type: ignore[method-assign]
    assert run.tokens_per_s is not None
    steps_s = run.n_tokens / run.tokens_per_s
    between = held[1:-1]  # neither the first, whose pages are new, nor the one before the evaluation
    said = f"{title}: steps {steps_s:.1f} s; held {sum(between):.2f} s for {len(between)} checkpoints"
    print(f"{said}, {sum(between) / (steps_s + sum(between)):.1%}; the first {held[0]:.2f} s")


def _recipe(place: Path, arguments: argparse.Namespace) -> Recipe:
    texts = [" ".join(str(i * j % 977) for j in range(400)) for i in range(1, 120)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    tokenize(lambda: documents, folder=place / "shards", vocabulary=300, validation_fraction=0.2, source="numbers")
    heads = arguments.width // 64
    model = Decoder(
        layers=arguments.layers, width=arguments.width, heads=heads, kv_heads=heads, head_size=64,
        hidden=64 * round(arguments.width / 24), vocabulary=8192, context=CONTEXT,
    )  # fmt: skip
    return Recipe(
        name="cost", shards=str(place / "shards"), model=model, n_tokens=arguments.steps * arguments.batch,
        batch_tokens=arguments.batch, optimizer=Optimizer(learning_rate=1e-3), device="cpu", evaluations=1,
        validation_tokens=CONTEXT, divergence=Divergence(anchor_steps=10**9),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
