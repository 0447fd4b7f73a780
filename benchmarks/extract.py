"""How good and how fast the main text is found: `python benchmarks/extract.py ../shared/data [--development]`.

Pages are built (`extract_pages`), so that their main text is known. For each method: F1 in two measures, and documents
a second of CPU time of one core; together the curve of quality against speed.

    shingles   per page, F1 of the bags of 4 successive words found and wanted; the mean over pages. It is the measure
               of Scrapinghub's article-extraction-benchmark
    segments   over all pages together, the wanted pieces found whole and the furniture found whole, as trafilatura's
               own evaluation counts its segments

The page's title is neither asked for nor held against an answer: methods differ on whether it is text.
"""

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from extract_pages import Page, pages
from resiliparse.extract.html2text import extract_plain_text
from trafilatura import extract as trafilatura_extract

from isoflop.data.extract import extract

WORDS = 4
METHODS: dict[str, Callable[[bytes], str]] = {
    "all text (resiliparse)": lambda page: extract_plain_text(page.decode("utf-8", "replace"), alt_texts=False),
    "resiliparse, as fast": lambda page: extract(page, method="fast").text,
    "blocks, as auto": lambda page: extract(page, method="auto").text,
    "trafilatura fast=True": lambda page: trafilatura_extract(page, include_comments=False, fast=True) or "",
    "trafilatura, as quality": lambda page: extract(page, method="quality").text,
}


@dataclass(frozen=True)
class Scores:
    """Precision and recall, each in 0..1."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The bag of every WORDS successive words; of all words where there are fewer."""
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1)))


def shingle_scores(found: str, page: Page) -> Scores:
    """How much of what was found is wanted, and of what is wanted was found."""
    got, wanted = shingles(found.replace(page.title, "", 1)), shingles("\n".join(page.wanted))
    common = (got & wanted).total()
    return Scores(common / got.total(), common / wanted.total())


def segment_scores(found: list[str], made: list[Page]) -> Scores:
    """Wanted and unwanted pieces found whole, white space aside, over all pages."""
    right = wrong = wanted = 0
    for text, page in zip(found, made, strict=True):
        flat = " ".join(text.split())
        wanted += len(page.wanted)
        right += sum(" ".join(piece.split()) in flat for piece in page.wanted)
        wrong += sum(" ".join(piece.split()) in flat for piece in page.unwanted)
    return Scores(right / max(1, right + wrong), right / wanted)


def timed(method: Callable[[bytes], str], made: list[Page]) -> tuple[list[str], float]:
    """The text of every page, and the CPU seconds that it took."""
    start = time.process_time()
    found = [method(page.html) for page in made]
    return found, time.process_time() - start


def measure(name: str, method: Callable[[bytes], str], made: list[Page]) -> None:
    """Print a method's row, and its F1 by layout."""
    _, seconds = timed(method, made)
    found, again = timed(method, made)
    rate = len(made) / min(seconds, again)  # Twice: what is imported or built once is not held against a method.
    scores = [shingle_scores(text, page) for text, page in zip(found, made, strict=True)]
    mean = [sum(values) / len(made) for values in zip(*((s.f1, s.precision, s.recall) for s in scores), strict=True)]
    whole = segment_scores(found, made)
    print(f"{name:<26} {mean[0]:6.3f} {mean[1]:9.3f} {mean[2]:6.3f} {whole.f1:8.3f} {rate:9.0f}")
    by_layout: dict[str, list[float]] = {}
    for score, page in zip(scores, made, strict=True):
        by_layout.setdefault(page.layout, []).append(score.f1)
    print("    " + ", ".join(f"{layout} {sum(each) / len(each):.3f}" for layout, each in by_layout.items()))


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that holds text/ and html/")
    parser.add_argument("--per-layout", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--development", action="store_true", help="the layouts that may be looked at")
    options = parser.parse_args()
    made = pages(options.data, kept_back=not options.development, per_layout=options.per_layout, seed=options.seed)
    size = sum(len(page.html) for page in made) / len(made) / 1e3
    layouts = f"{len({page.layout for page in made})} {'development' if options.development else 'kept-back'} layouts"
    print(f"{len(made)} pages of {layouts}, {size:.1f} kB each on average\n")
    print(f"{'method':<26} {'F1':>6} {'precision':>9} {'recall':>6} {'segments':>8} {'docs/s':>9}")
    for name, method in METHODS.items():
        measure(name, method, made)


if __name__ == "__main__":
    main()
