"""Text and recipes for what measures ladders: words at random, drawn as often as Zipf's law has them."""

import random
from pathlib import Path

from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import Schedule

CONTEXT, VOCABULARY = 128, 512


def write_shards(folder: Path, *, words: int) -> Path:
    """Shards of so many words; the folder."""
    dice = random.Random(0)
    known = ["".join(dice.choices("etaoinshrdlu", k=dice.randint(2, 9))) for _ in range(2000)]
    weights = [1 / rank for rank in range(1, len(known) + 1)]
    texts = [" ".join(dice.choices(known, weights, k=500)) for _ in range(words // 500)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    tokenize(lambda: documents, folder=folder, vocabulary=VOCABULARY, validation_fraction=0.1, source="Zipf's words")
    return folder


def nano_rung(
    shards: Path, *, width: int, steps: int, batch: int = 4, threads: int = 1, seed: int = 0, stable: bool = False
) -> Recipe:
    """A rung of three layers, 60,000 to 400,000 parameters; `stable`: with no cooldown, to branch off."""
    heads = max(1, width // 32)
    model = Decoder(
        layers=3, width=width, heads=heads, kv_heads=heads, head_size=32, hidden=width * 8 // 3 // 16 * 16,
        vocabulary=VOCABULARY, context=CONTEXT,
    )  # fmt: skip
    return Recipe(
        name=f"w{width}-s{steps}", shards=str(shards), model=model, n_tokens=steps * batch * CONTEXT,
        batch_tokens=batch * CONTEXT, device="cpu", threads=threads, seed=seed, validation_tokens=8192, evaluations=1,
        optimizer=Optimizer(learning_rate=3e-3), schedule=Schedule(cooldown_fraction=0.0 if stable else None),
    )  # fmt: skip
