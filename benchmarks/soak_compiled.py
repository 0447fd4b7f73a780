"""A compiled run, in C++, stopped and gone on with in another process, against one never stopped: bit for bit.

    python benchmarks/soak_compiled.py [--steps 30]

Every process compiles on its own, into an empty cache. Prints the seconds a cold start took and whether the ends are
equal; ends with 1 where they are not.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import torch

from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import PreemptedError
from isoflop.specs.architecture import Decoder
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, record
from isoflop.train.loop import train

MODEL = Decoder(layers=2, width=64, heads=2, kv_heads=1, head_size=32, hidden=192, vocabulary=270, context=64)


def child(recipe: Path, folder: Path, stop: int) -> None:
    """Train until so many steps of this process are done; 75 where it was stopped."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return 0 < stop < asked

    try:
        run = train(msgspec.json.decode(recipe.read_bytes(), type=Recipe), folder=folder, should_stop=should_stop)
    except Exception as error:
        raise SystemExit(75 if isinstance(error, PreemptedError) or "saved" in str(error) else str(error)) from error
    assert run.engine is not None
    if not run.engine.compiled:
        raise SystemExit("torch.compile failed: nothing is proved")


def in_process(recipe: Path, folder: Path, *, stop: int = 0) -> float:
    """Seconds it took."""
    with tempfile.TemporaryDirectory(prefix="isoflop-inductor-") as cache:
        begin = time.perf_counter()
        words = [sys.executable, __file__, "--child", str(recipe), str(folder), str(stop)]
        ended = subprocess.run(words, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}).returncode
        if ended != (75 if stop else 0):
            raise SystemExit(f"the run ended with {ended}")
        return time.perf_counter() - begin


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = checkpoint.load(max((folder / record.CHECKPOINTS).glob("step-*")))
    return {f"{group}/{name}": value for group, rows in found.tensors.items() for name, value in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--child", nargs=3, metavar=("RECIPE", "FOLDER", "STOP"))
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), Path(options.child[1]), int(options.child[2]))
        return
    with tempfile.TemporaryDirectory(prefix="isoflop-soak-") as place:
        here = Path(place)
        texts = [" ".join(f"w{(i * j) % 23}" for j in range(400)) for i in range(1, 60)]
        tokenize(lambda: [Document(f"{i}", text) for i, text in enumerate(texts)], folder=here / "shards",
                 vocabulary=270, validation_fraction=0.3, source="words in a circle")  # fmt: skip
        recipe = Recipe(name="soak", shards=str(here / "shards"), model=MODEL, n_tokens=options.steps * 512,
                        batch_tokens=512, compile=True, device="cpu", validation_tokens=1024)  # fmt: skip
        (here / "recipe.json").write_bytes(msgspec.json.encode(recipe))
        whole_s = in_process(here / "recipe.json", here / "whole")
        in_process(here / "recipe.json", here / "cut", stop=options.steps // 2)
        in_process(here / "recipe.json", here / "cut")
        ours, theirs = weights(here / "cut"), weights(here / "whole")
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    print(f"{options.steps} compiled steps, torch and a cold compiler included: {whole_s:.0f} s; equal ends: {same}")
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
