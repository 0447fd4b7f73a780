"""How fast tokenizers are trained and text is encoded, ours beside those of others in the same run.

    python benchmarks/tokenizer.py [TEXT] [--megabytes 75] [--vocabulary 16384] [--repeats 5]

Prints MB (10^6 bytes of UTF-8) a second of CPU time on one thread, the median of the repeats with the slowest and
fastest. The contenders take turns, so that a busy moment of the machine meets all of them. TEXT is a file or folder;
without it the standard library is read. All encode with the tokens that ours was trained to, and the counts of tokens
are compared.
"""

import os

os.environ["RAYON_NUM_THREADS"] = "1"  # read when the engines are imported; CPU seconds are then those of one thread

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from isoflop.data.byte_pairs import merged
from isoflop.data.corpus import source
from isoflop.data.patterns import DEFAULT
from isoflop.data.tokenizer import Tokenizer

TARGETS = {"train": 9.0, "encode": 14.0}


def texts(path: Path | None, megabytes: float) -> Iterator[str]:
    """Documents from all over the text, up to so many MB: of a folder's files in turn, not the first ones alone."""
    parts = sorted(each for each in path.iterdir() if each.is_file()) if path and path.is_dir() else [path]
    left = megabytes * 1e6
    turns = [source(part).documents() for part in parts]
    while turns and left > 0:
        for turn in list(turns):
            document = next(turn, None)
            if document is None:
                turns.remove(turn)
                continue
            yield document.text
            left -= len(document.text.encode())


def measure(title: str, megabytes: float, contenders: dict[str, Callable[[], object]], repeats: int) -> None:
    """One table: each contender in turn, `repeats` times."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, work in contenders.items():
            start = time.process_time()
            work()
            rates[name].append(megabytes / (time.process_time() - start))
    print(f"\n{title:<52} {'median':>8} {'slowest':>8} {'fastest':>8}")
    for name, found in rates.items():
        print(f"{name:<52} {statistics.median(found):8.2f} {min(found):8.2f} {max(found):8.2f}")


def encoders(ours: Tokenizer, sample: list[str]) -> dict[str, Callable[[], int]]:
    """Ours, tiktoken and Hugging Face's library on the same tokens; each gives the number of ids."""
    import tiktoken
    import tokenizers

    with tempfile.TemporaryDirectory() as scratch:
        ours.save(Path(scratch, "tokenizer.json"))
        theirs = tokenizers.Tokenizer.from_file(str(Path(scratch, "tokenizer.json")))
    theirs.encode_special_tokens = True
    ranks = {token: rank for rank, token in enumerate(ours.tokens)}
    bare = tiktoken.Encoding("bare", pat_str=ours.pattern, mergeable_ranks=ranks, special_tokens={})
    return {
        "isoflop, Tokenizer.encode_batch": lambda: sum(map(len, ours.encode_batch(sample))),
        "tiktoken, encode_ordinary": lambda: sum(len(bare.encode_ordinary(text)) for text in sample),
        "tokenizers, encode_batch": lambda: sum(len(each.ids) for each in theirs.encode_batch(sample)),
    }


def main() -> None:
    """Read, train, encode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--megabytes", type=float, default=75.0, help="to train on")
    parser.add_argument("--encode-megabytes", type=float, default=20.0)
    parser.add_argument("--vocabulary", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    read = list(texts(asked.text, asked.megabytes))
    size = sum(len(text.encode()) for text in read) / 1e6
    print(f"{source(asked.text).description}: {len(read)} documents, {size:.1f} MB; vocabulary {asked.vocabulary:,}")
    print(f"targets: train {TARGETS['train']} MB/CPU-s, encode {TARGETS['encode']}")
    measure(
        "train, MB per CPU second",
        size,
        {
            "isoflop, Tokenizer.train (rustbpe)": lambda: Tokenizer.train(read, vocabulary=asked.vocabulary),
            "tokenizers, BpeTrainer": lambda: merged(
                read, count=asked.vocabulary - 257, pattern=DEFAULT.regex, engine="tokenizers"
            ),
        },
        asked.repeats,
    )
    if hasattr(os, "sched_setaffinity"):  # ours takes a thread for each core it may use
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sample = list(texts(asked.text, min(asked.encode_megabytes, asked.megabytes)))
    size = sum(len(text.encode()) for text in sample) / 1e6
    contenders = encoders(Tokenizer.train(read, vocabulary=asked.vocabulary), sample)
    print(f"\n{size:.1f} MB encoded; tokens:", ", ".join(f"{work():,}" for work in contenders.values()))
    measure("encode on one thread, MB per CPU second", size, dict(contenders), asked.repeats)


if __name__ == "__main__":
    main()
