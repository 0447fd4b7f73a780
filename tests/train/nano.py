"""A run small enough to be trained many times in a test."""

from pathlib import Path

import pytest
import torch

from isoflop import files
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import StoppedError
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, record, store
from isoflop.train.events import Event
from isoflop.train.loop import train

CONTEXT = 16
BATCH = 4 * CONTEXT
MODEL = Decoder(layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=CONTEXT)


def nano(shards: Path, *, steps: int) -> Recipe:
    """A recipe of so many steps, on words that are written into `shards`."""
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(1, 120)) + "\n" for i in range(1, 30)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    tokenize(lambda: documents, folder=shards, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    return Recipe(
        name="nano",
        shards=str(shards),
        model=MODEL,
        n_tokens=steps * BATCH,
        batch_tokens=BATCH,
        optimizer=Optimizer(learning_rate=3e-3),
        device="cpu",
        validation_tokens=512,
        evaluations=3,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the newest checkpoint of a run."""
    found = checkpoint.load(checkpoint.listing(folder)[-1].folder)
    return {f"{group}/{name}": value for group, rows in found.tensors.items() for name, value in rows.items()}


def curve(folder: Path) -> list[tuple[object, ...]]:
    """Every line of a run's curve, without what the clock says."""
    rows = files.read_lines(folder / store.METRICS, record.Row)
    timed = {"wall_s", "tokens_per_s", "mfu", "spent", "memory_bytes", "process_bytes"}
    return [tuple(getattr(row, name) for name in row.__struct_fields__ if name not in timed) for row in rows]


class _Plug:
    """Asks for an end once the run has reported so many steps; give it both places."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def hear(self, event: Event) -> None:
        self.seen = max(self.seen, event.step)

    def pulled(self) -> bool:
        return self.seen >= self.step


def interrupt(recipe: Recipe, folder: Path, step: int) -> None:
    """Train until that step and stop; every step must be reported."""
    plug = _Plug(step)
    with pytest.raises(StoppedError):
        train(recipe, folder=folder, on_event=plug.hear, should_stop=plug.pulled)
