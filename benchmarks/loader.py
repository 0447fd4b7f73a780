"""How fast shards become batches: `python benchmarks/loader.py [--tokens 200e6] [--seconds 1]`.

Raw uint16 tokens of five files become int64 batches, by five ways on the same files:

    mixture      `data.mixture`, five sources of unlike weights
    one source   the same loader on one of them
    numpy        what a first trainer writes: random starts, a slice and `astype` for each row, `stack`
    torch        `DataLoader` over a map-style data set of the same windows, shuffled, in this process
    gather       the reading alone, positions known: what the order costs is the difference

GB/s are 10^9 bytes of int64 inputs (8 a token) in a second of this process's CPU time (`process_time`: one core's),
the median of rounds. The page cache is warm; from a cold disk the disk decides.

The first rows tell what `Shards.verify` reads of 100 MB of shards: sha256 and a look at every token.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isoflop import stamp
from isoflop.data.mixture import Mixture, Span
from isoflop.data.shard_writer import Writer
from isoflop.data.shards import TOKENIZER, Header, ShardSplit, Tokens, open_shards, write_header
from isoflop.data.split import SPLITS, Split
from isoflop.data.tokenizer import Tokenizer

PARTS = (5, 4, 3, 2, 1)
BATCH_TOKENS = (2**14, 2**19)
CONTEXTS = (128, 512, 1024, 4096)


def written(folder: Path, n_tokens: int) -> list[Tokens]:
    """Five files of random tokens, mapped."""
    random, texts = np.random.default_rng(0), []
    for number in range(len(PARTS)):
        path = folder / f"{number}.bin"
        random.integers(0, 50_000, n_tokens // len(PARTS), dtype=np.uint16).tofile(path)
        texts.append(Tokens([np.asarray(np.memmap(path, dtype="<u2", mode="r"))]))
    return texts


def rate(draw: Callable[[int], object], *, n_bytes: int, seconds: float) -> float:
    """GB/s of the median round; a round is a tenth of the time."""
    draw(0)
    found: list[float] = []
    number, end = 1, time.process_time() + seconds
    while time.process_time() < end or len(found) < 3:
        began, first = time.process_time(), number
        while time.process_time() < began + seconds / 10:
            draw(number)
            number += 1
        found.append((number - first) * n_bytes / (time.process_time() - began) / 1e9)
    return statistics.median(found)


def naive(tokens: npt.NDArray[np.unsignedinteger], context: int, sequences: int) -> Callable[[int], object]:
    """Random starts, one row after the other."""
    random = np.random.default_rng(0)

    def draw(_: int) -> object:
        starts = random.integers(0, len(tokens) - context - 1, sequences)
        inputs = np.stack([tokens[start : start + context].astype(np.int64) for start in starts])
        targets = np.stack([tokens[start + 1 : start + 1 + context].astype(np.int64) for start in starts])
        return inputs, targets

    return draw


def of_torch(tokens: npt.NDArray[np.unsignedinteger], context: int, sequences: int) -> Callable[[int], object]:
    """Torch's own loader over the same windows."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class WindowsOf(Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return (len(tokens) - 1) // context

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            row = torch.from_numpy(tokens[number * context : (number + 1) * context + 1].astype(np.int64))
            return row[:-1], row[1:]

    def endless() -> Iterator[Any]:
        while True:
            yield from DataLoader(WindowsOf(), batch_size=sequences, shuffle=True, drop_last=True)

    batches = endless()
    return lambda _: next(batches)


def gathering(tokens: Tokens, context: int, sequences: int) -> Callable[[int], object]:
    """Rows at known positions."""
    starts = np.random.default_rng(0).integers(0, len(tokens) - context - 1, (64, sequences))
    return lambda number: tokens.gather(starts[number % 64], length=context + 1)


def verifying(folder: Path) -> None:
    """GB/s of sha256 and the look at tokens, of two files of 50 MB with one thread and with two."""
    tokenizer = Tokenizer.train(["abc " * 100], vocabulary=258)
    tokenizer.save(folder / TOKENIZER)
    random = np.random.default_rng(0)
    splits: dict[Split, ShardSplit] = {}
    for split in SPLITS:
        writer = Writer(folder, split, vocabulary=258)
        for _ in range(25):
            writer.add(random.integers(0, 257, 10**6, dtype=np.uint32), n_bytes=10**6)
        splits[split] = writer.close()
    header = Header(
        dtype="uint16", vocabulary=258, tokenizer_sha256=tokenizer.sha256, splits=splits, text_sha256="",
        validation_fraction=0.5, tokenizer_sample_bytes=0, source="random", stamp=stamp.make({}),
    )  # fmt: skip
    write_header(folder, header)
    shards = open_shards(folder)
    for threads in (1, 2):
        began = time.perf_counter()
        shards.verify(threads=threads)
        print(f"verify, {threads} threads: {0.1 / (time.perf_counter() - began):.2f} GB/s of shards, by the clock")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=200e6, help="in all five files")
    parser.add_argument("--seconds", type=float, default=1.0, help="of CPU for each number")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        verifying(Path(scratch))
        texts = written(Path(scratch), int(asked.tokens))
        print(f"\n{'context':>7} {'batch':>8}  mixture  one source  numpy  torch  gather   GB/s of int64 a core")
        for context in CONTEXTS:
            for batch_tokens in BATCH_TOKENS:
                sequences = batch_tokens // context
                mixed = Span(begins=0, context=context, sequences=sequences, parts=PARTS)
                alone = Span(begins=0, context=context, sequences=sequences, parts=(1,))
                raw = texts[0].arrays[0]
                ways = (
                    Mixture(texts, [mixed], seed=0).batch,
                    Mixture(texts[:1], [alone], seed=0).batch,
                    naive(raw, context, sequences),
                    of_torch(raw, context, sequences),
                    gathering(texts[0], context, sequences),
                )
                found = [rate(way, n_bytes=batch_tokens * 8, seconds=asked.seconds) for way in ways]
                print(f"{context:>7} {batch_tokens:>8}  {found[0]:7.2f}  {found[1]:10.2f}  {found[2]:5.2f}  "
                      f"{found[3]:5.2f}  {found[4]:6.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
