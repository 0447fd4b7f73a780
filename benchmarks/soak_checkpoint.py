"""Kill a training run at random moments, many times, and hold its end against an undisturbed one, bit for bit.

    python benchmarks/soak_checkpoint.py [--kills 100] [--seed 0]

The run saves at every step, so most kills fall into the writing of a checkpoint. Prints kills, restarts that found a
damaged checkpoint (there must be none: a kill leaves no half behind a name) and whether the ends are equal.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import torch

from isoflop import files
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.specs.architecture import Decoder
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, keeper, record, store
from isoflop.train.loop import train

CONTEXT, SEQUENCES, VOCABULARY = 16, 4, 300


def main() -> int:
    """Run as a program; with `--go-on` as one attempt of the run under attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--go-on", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.go_on:
        return _go_on(arguments.go_on)
    with tempfile.TemporaryDirectory() as place:
        return _soak(Path(place), kills=arguments.kills, random=random.Random(arguments.seed))


def _soak(place: Path, *, kills: int, random: random.Random) -> int:
    recipe = _recipe(place / "shards", steps=20 * kills)
    files.write_json(place / "recipe.json", recipe)
    whole = train(recipe, folder=place / "whole")
    done = damaged = 0
    while done < kills and _status(place / "killed") != "finished":
        command = [sys.executable, __file__, "--go-on", str(place)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            damaged += "skipped" in process.stdout.read()
        done += process.returncode == -signal.SIGKILL
    again = train(recipe, folder=place / "killed")
    equal = whole.loss_nats == again.loss_nats and _same(_last(place / "whole"), _last(place / "killed"))
    print(f"{done} kills, {damaged} damaged checkpoints met, ends {'equal to the bit' if equal else 'DIFFER'}")
    return 0 if equal and not damaged else 1


def _go_on(place: Path) -> int:
    """One attempt: train on from wherever the folder stands, saving at every step."""
    keeper._SAVE_S, keeper._SAVE_SHARE = 0.0, 1e9
    recipe = msgspec.json.decode((place / "recipe.json").read_bytes(), type=Recipe)
    print("ready", flush=True)
    train(recipe, folder=place / "killed", on_event=lambda event: print(event.text, flush=True) if event.text else None)
    return 0


def _recipe(shards: Path, *, steps: int) -> Recipe:
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    texts = [" ".join(words[i * j % len(words)] for j in range(1, 200)) for i in range(1, 60)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    tokenize(lambda: documents, folder=shards, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    model = Decoder(
        layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=VOCABULARY, context=CONTEXT
    )
    batch = SEQUENCES * CONTEXT
    return Recipe(
        name="soak", shards=str(shards), model=model, n_tokens=steps * batch, batch_tokens=batch, device="cpu",
        validation_tokens=512, evaluations=4,
    )  # fmt: skip


def _status(folder: Path) -> str | None:
    run = store.read(folder)
    return None if run is None else run.status


def _last(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return checkpoint.load(max((folder / record.CHECKPOINTS).glob("step-*"))).tensors


def _same(a: dict[str, dict[str, torch.Tensor]], b: dict[str, dict[str, torch.Tensor]]) -> bool:
    return all(a[group].keys() == b[group].keys() for group in a) and all(
        torch.equal(a[group][name], b[group][name]) for group in a for name in a[group]
    )


if __name__ == "__main__":
    sys.exit(main())
