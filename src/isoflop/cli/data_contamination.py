"""`isoflop data contamination`: which evaluation items stand in the text that a model is trained on."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from isoflop.cli.shell import Output, Printer, output_options

if TYPE_CHECKING:
    from isoflop.data.contamination import Index, Item

_SHOWN = 10
_PASSAGE = 100


@click.command()
@click.argument("folders", metavar="SHARDS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--items", "files", multiple=True, required=True, type=click.Path(path_type=Path),
    help="Evaluation set: JSON Lines whose texts all count, or anything with texts; may be given again.",
)  # fmt: skip
@click.option("--words", type=int, help="Words of a run; default: the index's own, or 13.")
@click.option("--most", default=0.0, show_default=True, help="Share of an item's words that may be found in the text.")
@output_options("data.contamination")
def contamination(
    folders: tuple[Path, ...], files: tuple[Path, ...], words: int | None, most: float, output: Output
) -> None:
    """Which items of evaluation sets stand in the training split of SHARDS.

    Runs of 13 words are compared without case and punctuation, e.g. `isoflop data contamination shards/web shards/code
    --items mmlu.jsonl --json`, which lists every item. Each folder's index is read, or made first and kept in it; `data
    tokenize --index-words 13` makes it on the way. Items of fewer words than a run cannot be judged and are counted
    apart; a smaller --words finds them and more that is chance. To drop such documents before they are tokenized, there
    is the stage `contamination` of `data run`.
    """
    from isoflop.data.contamination import check, ensure_index
    from isoflop.data.evaluation_items import read_items
    from isoflop.data.shards import open_shards

    start = time.perf_counter()
    made: list[str] = []
    indices: list[Index] = []
    for folder in folders:
        shards = open_shards(folder)

        def begin(folder: Path = folder) -> None:
            made.append(str(folder))
            output.progress(f"{folder}: indexing its words")

        indices.append(ensure_index(shards, n=indices[0].header.n if indices else words, on_begin=begin))
    sets = [_told(file, list(check(read_items(file), indices, threshold=most))) for file in files]
    payload = {
        "shards": [str(folder) for folder in folders],
        "words": indices[0].header.n,
        "most": most,
        "n_runs": sum(index.n_runs for index in indices),
        "indexed": made,
        "sets": sets,
        "wall_s": time.perf_counter() - start,
    }
    output.show(payload, lambda printer: _render(printer, payload))


def _told(file: Path, items: "list[Item]") -> dict[str, Any]:
    from isoflop.data.contamination import Verdict

    counts = Counter(item.verdict for item in items)
    return {
        "file": str(file),
        "n_items": len(items),
        **{f"n_{verdict.replace(' ', '_')}": counts[verdict] for verdict in get_args(Verdict)},
        "items": msgspec.to_builtins(items),
    }


def _render(printer: Printer, payload: dict[str, Any]) -> None:
    where = ", ".join(payload["shards"])
    rows = [
        [one["file"], *(f"{one[key]:,}" for key in ("n_items", "n_contaminated", "n_clean", "n_too_short"))]
        for one in payload["sets"]
    ]
    printer.table(
        f"runs of {payload['words']} words in {where}", ["set", "items", "contaminated", "clean", "too short"], rows
    )
    for one in payload["sets"]:
        found = [item for item in one["items"] if item["verdict"] == "contaminated"]
        found.sort(key=lambda item: -item["covered"])
        for item in found[:_SHOWN]:
            passage = " ".join(item["passage"].split())
            cut = passage if len(passage) <= _PASSAGE else passage[:_PASSAGE] + "..."
            printer.line(f"{item['id']}: {item['covered']:.0%} of {item['n_words']} words, such as {cut!r}")
        if found[_SHOWN:]:
            printer.line(f"and {len(found) - _SHOWN} more of {one['file']}; --json lists all")
        if one["n_too_short"]:
            short = f"{one['n_too_short']:,} of {one['n_items']:,} items"
            printer.warn(f"{one['file']}: {short} have fewer than {payload['words']} words and were not looked for")
