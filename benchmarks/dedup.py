"""MB/s of deduplication, quality and contamination: `python benchmarks/dedup.py [TEXT] [--peers-python PYTHON]`.

Near duplicates run beside rensa with sets of strings, and, in the environment of PYTHON, datasketch and datatrove: all
with 14 bands of 8 rows over runs of 5 words. MB are 10^6 bytes of UTF-8 over CPU seconds of the process, the median of
`REPEATS` runs with the slowest and fastest. Without TEXT it measures on the standard library. The last table is our
recall on planted pairs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# One core, whatever a library takes by default; read when it is imported.
os.environ.update(OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1")

REPEATS = 3
BANDS, ROWS, RUN_WORDS = 14, 8, 5
Documents = list[tuple[str, str]]


def measure(name: str, megabytes: float, work: Callable[[], object]) -> None:
    """Print one row."""
    rates = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = work()
        rates.append(megabytes / (time.process_time() - start))
    print(f"{name:<46} {statistics.median(rates):8.2f} {min(rates):8.2f} {max(rates):8.2f}  {result}", flush=True)


def ours(documents: Documents, megabytes: float) -> None:
    """Each stage of ours from text in memory to its answer; tables go to disk and come back."""
    from isoflop.data.contamination import Index, IndexWriter, check
    from isoflop.data.dedup import Documents as Whole
    from isoflop.data.dedup import Spans, Windows
    from isoflop.data.dedup_clusters import REPEAT, clusters, repeats
    from isoflop.data.dedup_minhash import MinHash
    from isoflop.data.dedup_tables import Keys, write_table
    from isoflop.data.quality import train
    from isoflop.data.read import Document

    read = [Document(name, text) for name, text in documents]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "table")

        def documents_dropped(keys: Keys) -> str:
            return f"{clusters([write_table(table, read, keys)]).n_dropped} documents dropped"

        def units_dropped(keys: Keys) -> str:
            return f"{int((repeats([write_table(table, read, keys)])[0] == REPEAT).sum())} units repeat"

        def contaminated() -> str:
            writer = IndexWriter(Path(folder, "index"))
            writer.add(document.text for document in read)
            writer.close(split_sha256="benchmark")
            found = check(read[:100], [Index(writer.folder)])
            return f"{sum(item.verdict == 'contaminated' for item in found)} of 100 found"

        measure("isoflop near duplicates", megabytes, lambda: documents_dropped(MinHash()))
        measure("isoflop equal documents", megabytes, lambda: documents_dropped(Whole()))
        measure("isoflop equal lines", megabytes, lambda: units_dropped(Spans(unit="line")))
        measure("isoflop equal paragraphs", megabytes, lambda: units_dropped(Spans(unit="paragraph")))
        measure("isoflop windows of 50 words", megabytes, lambda: units_dropped(Windows()))
        measure("isoflop contamination, index of 13 words", megabytes, contaminated)
        halves = {"even": read[::2], "odd": read[1::2]}
        classifier = train(halves)
        texts = [document.text for document in read]
        measure("isoflop quality, verdicts", megabytes, lambda: f"{len(classifier.probabilities(texts))} judged")


def recalled(*, pairs: int = 4000, length: int = 144) -> None:
    """Share of planted pairs found as neighbours at each similarity, beside what theory asks.

    The texts of a pair share their first words, all others are nobody else's, so their Jaccard similarity is exact.
    """
    from isoflop.data.dedup_clusters import clusters
    from isoflop.data.dedup_minhash import MinHash, recall
    from isoflop.data.dedup_tables import write_table
    from isoflop.data.read import Document

    n_runs = length - RUN_WORDS + 1
    print(f"\n{'Jaccard':>8} {'found':>7} {'1-(1-s^8)^14':>13} {'off, sd':>8}   of {pairs:,} pairs")
    for percent in range(30, 100, 5):
        shared = round(2 * n_runs * percent / (100 + percent))
        jaccard = shared / (2 * n_runs - shared)
        documents = [
            Document(f"{number}{side}", " ".join(
                f"{'s' if at < shared + RUN_WORDS - 1 else side}{number}x{at}" for at in range(length)
            ))
            for number in range(pairs) for side in "lr"
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            keepers = clusters([write_table(Path(folder, "table"), documents, MinHash())]).keepers.reshape(-1, 2)
        found = float((keepers[:, 0] == keepers[:, 1]).mean())
        expected = float(recall(jaccard))
        off = (found - expected) / (expected * (1 - expected) / pairs) ** 0.5
        print(f"{jaccard:8.3f} {found:7.4f} {expected:13.4f} {off:+8.1f}", flush=True)


def rensa_bare(documents: Documents) -> str:
    """rensa as its page shows it: one set of strings a document."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=0.8, num_perm=BANDS * ROWS, num_bands=BANDS)
    dropped = 0
    for number, (_, text) in enumerate(documents):
        signature = RMinHash(num_perm=BANDS * ROWS, seed=1)
        signature.update(list(shingles(text)))
        dropped += bool(index.query(signature))
        index.insert(number, signature)
    return f"{dropped} documents have an earlier neighbour"


def datasketch(documents: Documents) -> str:
    """datasketch with its own bands."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    dropped = 0
    for number, (_, text) in enumerate(documents):
        signature = MinHash(num_perm=BANDS * ROWS, seed=1)
        signature.update_batch([run.encode() for run in shingles(text)])
        dropped += bool(index.query(signature))
        index.insert(number, signature)
    return f"{dropped} documents have an earlier neighbour"


def datatrove(documents: Documents) -> str:
    """datatrove's signatures alone; its later stages only add to the time."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    with tempfile.TemporaryDirectory() as folder:
        config = MinhashConfig(n_grams=RUN_WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS)
        stage = MinhashDedupSignature(output_folder=folder, config=config)
        stage.run((Document(text=text, id=name) for name, text in documents), rank=0, world_size=1)
    return "signatures only"


def shingles(text: str) -> set[str]:
    """Runs of words, as the peers take them."""
    words = text.lower().split()
    return {" ".join(words[i : i + RUN_WORDS]) for i in range(max(len(words) - RUN_WORDS + 1, 1))}


def peers(documents: Documents, megabytes: float) -> None:
    """Those that are installed here; the others are named."""
    for work in (rensa_bare, datasketch, datatrove):
        try:
            work(documents[:1])
        except ImportError as error:
            print(f"{work.__name__:<46} not installed ({error.name})")
            continue
        measure(work.__name__, megabytes, lambda work=work: work(documents))  # type: ignore[misc]


def main() -> None:
    """Measure ours here, and the peers in an environment of their own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--peers-python", type=Path, help="interpreter that has rensa, datasketch, datatrove")
    parser.add_argument("--megabytes", type=float, default=20, help="of text to take at most")
    parser.add_argument("--documents", type=Path, help=argparse.SUPPRESS)  # how the peers' process is given its text
    given = parser.parse_args()
    if given.documents:
        documents = [(name, text) for name, text in json.loads(given.documents.read_text())]
        peers(documents, sum(len(text.encode()) for _, text in documents) / 1e6)
        return
    from isoflop.data.corpus import source

    origin, documents, size = source(given.text), [], 0
    for document in origin.documents():
        documents.append((document.id, document.text))
        size += len(document.text.encode())
        if size > given.megabytes * 1e6:
            break
    print(f"{origin.description}: {len(documents)} documents, {size / 1e6:.1f} MB\n")
    print(f"{'MB/s of one core':<46} {'median':>8} {'slowest':>8} {'fastest':>8}", flush=True)
    ours(documents, size / 1e6)
    with tempfile.TemporaryDirectory() as folder:
        handed = Path(folder, "documents.json")
        handed.write_text(json.dumps(documents))
        python = given.peers_python or Path(sys.executable)
        subprocess.run([python, __file__, "--documents", handed], check=True)
    recalled()


if __name__ == "__main__":
    main()
