"""The whole pipeline and its peers: `python benchmarks/data_pipeline.py ../shared/data [--peers-python PYTHON ...]`.

Mixed text (`--megabytes` of it, an equal share of each file) and the HTML pages go through every stage of the pipeline
with `--workers` processes; classifiers are trained on the same text beforehand. Then the peers do the same work on the
same documents, one after the other in the environment of each PYTHON that has them: trafilatura and resiliparse on the
pages, datasketch and rensa on near duplicates, datatrove on near duplicates and filters. MB are 10^6 bytes that came to
a stage; "of a core" is over the processor seconds of all workers. Peers are given documents in memory and keep none of
what they find: reading, writing and reasons are in our numbers and not in theirs. Filters come last here, as on texts
that are no web pages they drop so much that the stages behind them would have nothing to do.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoflop.data.pipeline import Run
    from isoflop.data.read import Document

Documents = list[tuple[str, str]]

RECIPE = """
[[source]]
path = "texts"
[[source]]
path = "{html}"
name = "web"
[limits]
shard_bytes = 8_000_000
[[stage]]
name = "extract"
[[stage]]
name = "length"
[[stage]]
name = "language"
[[stage]]
name = "exact"
[[stage]]
name = "classifier"
model = "model"
label = "{label}"
most = 1.0
[[stage]]
name = "domains"
model = "model"
[[stage]]
name = "near"
[[stage]]
name = "repeats"
unit = "paragraph"
[[stage]]
name = "contamination"
sets = ["{items}"]
[[stage]]
name = "pii"
[[stage]]
name = "filters"
use = ["fineweb"]
[[stage]]
name = "filters"
use = ["gopher-quality"]
[[stage]]
name = "filters"
use = ["gopher-repetition"]
"""
ROW = "{:<44} {:>9} {:>9} {:>9} {:>12} {:>12}"


def prepare(data: Path, folder: Path, megabytes: float) -> None:
    """Texts, a classifier of their files and a recipe."""
    from isoflop.data import quality

    (folder / "texts").mkdir()
    files = sorted((data / "text").glob("*.jsonl.gz"))
    for file in files:
        with gzip.open(folder / "texts" / file.name, "wt", compresslevel=1) as out:
            for line in head(file, megabytes * 1e6 / len(files)):
                out.write(line)
    examples = {file.name.split(".")[0]: pieces(folder / "texts" / file.name) for file in files}
    classifier = quality.train(examples)
    classifier.save(folder / "model")
    items = (data / "evaluate" / "benchmarks" / "boolq.jsonl").resolve()
    (folder / "recipe.toml").write_text(
        RECIPE.format(html=(data / "html").resolve(), items=items, label=classifier.labels[0])
    )


def pieces(file: Path) -> "Iterator[Document]":
    """Examples of a file: its documents in pieces of 2,000 letters, as there are few novels."""
    from isoflop.data.read import Document, documents

    for each in documents(file):
        for start in range(0, min(len(each.text), 40_000), 2000):
            yield Document(f"{each.id}:{start}", each.text[start : start + 2000])


def head(file: Path, n_bytes: float) -> Iterator[str]:
    """The first lines of a file, of about so many bytes of text."""
    held = 0
    with gzip.open(file, "rt") as lines:
        for line in lines:
            yield line
            held += len(line.encode())
            if held >= n_bytes:
                return


def ours(folder: Path, workers: int) -> None:
    """A row a stage, and one of all."""
    from isoflop.data import pipeline
    from isoflop.specs import data_recipe

    start = time.perf_counter()
    made = pipeline.run(data_recipe.load(folder / "recipe.toml"), folder / "out", workers=workers)
    wall_s = time.perf_counter() - start
    times = pipeline.times(folder / "out")
    print(ROW.format("stage", "MB came", "wall s", "CPU s", "MB/s", "of a core"), flush=True)
    for stage in made.stages:
        own = [each for each in times if each.folder == stage.folder]
        name = f"{stage.folder} {'+'.join(stage_options(made, stage.folder))}".strip()
        row(name, stage.tally.came.bytes / 1e6, sum(e.wall_s for e in own), sum(e.cpu_s for e in own))
    row("all, of what came in", made.stages[0].tally.came.bytes / 1e6, wall_s, sum(each.cpu_s for each in times))
    last = made.stages[-1].tally.kept
    print(f"{last.documents:,} of {made.stages[0].tally.came.documents:,} documents go on\n", flush=True)


def stage_options(made: "Run", folder: str) -> tuple[str, ...]:
    """Names of the filters of a stage of filters."""
    number = int(folder[:2])
    options = made.recipe.stages[number - 1].options if number else {}
    return tuple(options.get("use", ()))


def row(name: str, megabytes: float, wall_s: float, cpu_s: float) -> None:
    """Print one line."""
    rates = (f"{megabytes / each:.2f}" if each > 0 else "-" for each in (wall_s, cpu_s))
    print(ROW.format(name, f"{megabytes:.1f}", f"{wall_s:.1f}", f"{cpu_s:.1f}", *rates), flush=True)


def peers(pages: Path, handed: Path) -> None:
    """Those that are installed here; the others are named."""
    from dedup import datasketch, datatrove, rensa_bare  # beside this file

    documents: Documents = [(name, text) for name, text in json.loads(handed.read_text())]
    html = [file.read_bytes() for file in sorted(pages.glob("*.html"))]
    megabytes = sum(len(text.encode()) for _, text in documents) / 1e6
    markup = sum(map(len, html)) / 1e6
    works: list[tuple[str, float, Callable[[bool], object]]] = [
        ("trafilatura, pages", markup, lambda short: trafilatura(html[: 1 if short else None])),
        ("resiliparse, pages", markup, lambda short: resiliparse(html[: 1 if short else None])),
        ("datasketch, near duplicates", megabytes, lambda short: datasketch(documents[: 1 if short else None])),
        ("rensa, near duplicates", megabytes, lambda short: rensa_bare(documents[: 1 if short else None])),
        ("datatrove, near duplicates (signatures)", megabytes, lambda s: datatrove(documents[: 1 if s else None])),
        *((f"datatrove, {name}", megabytes, lambda short, name=name: filtered(name, documents[: 1 if short else None]))
          for name in ("GopherRepetitionFilter", "GopherQualityFilter", "FineWebQualityFilter")),
    ]  # fmt: skip
    for name, size, work in works:
        try:
            work(True)  # imports and models
        except ImportError as error:
            print(f"{name:<44} not installed here ({error.name})", flush=True)
            continue
        except (AttributeError, TypeError, ValueError) as error:  # a version of a package unknown to it
            print(f"{name:<44} does not run here ({type(error).__name__}: {error})", flush=True)
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        work(False)
        row(name, size, time.perf_counter() - wall, time.process_time() - cpu)


def trafilatura(html: list[bytes]) -> list[object]:
    """Main text, as its own default has it."""
    from trafilatura import extract

    return [extract(page) for page in html]


def resiliparse(html: list[bytes]) -> list[str]:
    """Main content."""
    from resiliparse.extract.html2text import extract_plain_text

    return [extract_plain_text(page.decode("utf-8", "replace"), main_content=True) for page in html]


def filtered(name: str, documents: Documents) -> list[object]:
    """Verdicts of one of datatrove's filters."""
    from datatrove.data import Document
    from datatrove.pipeline import filters

    judge = getattr(filters, name)()
    return [judge.filter(Document(text=text, id=key)) for key, text in documents]


def main() -> None:
    """Measure ours here, and the peers in environments of their own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with text/*.jsonl.gz, html/ and evaluate/")
    parser.add_argument("--megabytes", type=float, default=80, help="of text in all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peers-python", type=Path, nargs="*", default=[], help="interpreters that have peers")
    parser.add_argument("--documents", type=Path, help=argparse.SUPPRESS)  # how the peers' process is given its text
    given = parser.parse_args()
    if given.documents:
        peers(given.data / "html", given.documents)
        return
    from isoflop.data.read import documents

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(given.data, folder, given.megabytes)
        ours(folder, given.workers)
        handed = folder / "documents.json"
        handed.write_text(json.dumps([[each.id, each.text] for each in documents(folder / "texts")]))
        for python in given.peers_python or [Path(sys.executable)]:
            print(f"peers of {python}", flush=True)
            subprocess.run([python, __file__, given.data, "--documents", handed], check=True)


if __name__ == "__main__":
    main()
