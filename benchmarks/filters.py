"""How far our filters agree with datatrove's, document by document: `python benchmarks/filters.py --peers-python PY`.

PY is the Python of an environment with `datatrove==0.10.0`, `spacy`, `nltk`, `orjson` and `regex` (it pins what would
break ours). Reads `{"id", "text"}` lines from `--text` (a folder of .jsonl.gz), the first `--megabytes` of each file,
cut into pages of `--page` characters at line ends. Prints by filter and file the share of pages with one verdict, and
every class of disagreement with how often it came up.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from isoflop.data.filters import names
from isoflop.registry import load

# Run by the other Python: one line of JSON a page, {filter: reason or "" where it is kept}.
PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
filters = {"c4": C4QualityFilter(), "fineweb": FineWebQualityFilter(),
           "gopher-quality": GopherQualityFilter(), "gopher-repetition": GopherRepetitionFilter()}
spent = dict.fromkeys(filters, 0.0)
for line in open(sys.argv[1]):
    text, row = json.loads(line), {}
    for name, one in filters.items():
        start = time.process_time()
        try:
            said = one.filter(Document(text=text, id=""))
        except Exception as error:
            said = (False, type(error).__name__)
        spent[name] += time.process_time() - start
        row[name] = "" if said is True else said[1]
    print(json.dumps(row))
print(json.dumps(spent))
"""


def pages(file: Path, *, megabytes: float, size: int) -> Iterator[str]:
    """Texts of a file, long ones cut at line ends into pages as long as web pages are."""
    left = megabytes * 1e6
    with gzip.open(file, "rt") as source:
        for line in source:
            page: list[str] = []
            held = 0
            for piece in json.loads(line)["text"].splitlines(keepends=True):
                page.append(piece)
                held += len(piece)
                if held >= size:
                    yield "".join(page)
                    left -= held
                    page, held = [], 0
            if "".join(page).strip():
                yield "".join(page)
                left -= held
            if left <= 0:
                return


def theirs(python: Path, texts: list[str]) -> tuple[list[dict[str, str]], dict[str, float]]:
    """(reason by filter of each page, CPU seconds by filter) of datatrove."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as pages_file:
        pages_file.writelines(json.dumps(text) + "\n" for text in texts)
        pages_file.flush()
        done = subprocess.run([python, "-c", PEER, pages_file.name], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the peers' Python failed:\n{done.stderr}")
    *rows, spent = [json.loads(line) for line in done.stdout.splitlines()]
    return rows, spent


def ours(texts: list[str]) -> tuple[list[dict[str, str]], dict[str, float]]:
    """The same of our filters."""
    rows: list[dict[str, str]] = [{} for _ in texts]
    spent: dict[str, float] = {}
    for name in names():
        judge = load("filter", name, "isoflop.data.filters").judge
        start = time.process_time()
        for row, text in zip(rows, texts, strict=True):
            row[name] = judge(text).reason
        spent[name] = time.process_time() - start
    return rows, spent


def main() -> None:
    """Compare on every file and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, required=True)
    parser.add_argument("--text", type=Path, default=Path("../shared/data/text"))
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--page", type=int, default=6000)
    given = parser.parse_args()
    classes: dict[str, Counter[tuple[str, str, str]]] = {name: Counter() for name in names()}
    total, agreed = 0, Counter[str]()
    print(f"{'same verdict, per cent':<34}{'pages':>7}" + "".join(f"{name:>20}" for name in names()))
    for file in sorted(given.text.glob("*.jsonl.gz")):
        texts = list(pages(file, megabytes=given.megabytes, size=given.page))
        peer, peer_s = theirs(given.peers_python, texts)
        mine, mine_s = ours(texts)
        same = Counter[str]()
        for us, them in zip(mine, peer, strict=True):
            for name in names():
                same[name] += (not us[name]) == (not them[name])
                if us[name] or them[name]:
                    verdict = "same" if (not us[name]) == (not them[name]) else "DIFFERENT"
                    classes[name][verdict, us[name] or "kept", them[name] or "kept"] += 1
        total += len(texts)
        agreed += same
        print(f"{file.name:<34}{len(texts):>7}" + "".join(f"{100 * same[n] / len(texts):>20.2f}" for n in names()))
        size = sum(map(len, texts)) / 1e6
        print(f"{'':<41}" + "".join(f"{f'{size / mine_s[n]:.1f} / {size / peer_s[n]:.1f} MB/s':>20}" for n in names()))
    print(f"{'all':<34}{total:>7}" + "".join(f"{100 * agreed[n] / total:>20.2f}" for n in names()))
    for name in names():
        print(f"\n{name}: verdict, ours, datatrove's")
        for (verdict, left, right), count in classes[name].most_common():
            print(f"{count:>7}  {verdict:<10}{left:<34}{right}")


if __name__ == "__main__":
    main()
