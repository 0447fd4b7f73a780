"""`isoflop data`: from text to token shards."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoflop.cli.data_classifier import classifier
from isoflop.cli.data_contamination import contamination
from isoflop.cli.data_emit import emit_command
from isoflop.cli.data_mix import mix
from isoflop.cli.data_pii import pii
from isoflop.cli.data_run import report_command, run_command
from isoflop.cli.data_verify import verify_shards
from isoflop.cli.shell import Output, Printer, output_options

if TYPE_CHECKING:
    from isoflop.data.shards import Shards


@click.group()
def data() -> None:
    """From text to token shards."""


data.add_command(run_command)
data.add_command(emit_command)
data.add_command(report_command)
data.add_command(pii)
data.add_command(classifier)
data.add_command(verify_shards)
data.add_command(contamination)
data.add_command(mix)


@data.command()
@click.option("--text", type=click.Path(path_type=Path), help="File or folder; default: Python's standard library.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--vocabulary", default=1024, show_default=True, help="Tokens, the 256 bytes and end of text included.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Shards, or a tokenizer.json, whose tokens to take.")
@click.option(
    "--validation", default=0.08, show_default=True, help="Share of documents held out, by hash of their ids."
)
@click.option("--index-words", type=int, help="Index runs of so many words for `data contamination`, such as 13.")
@click.option("--force", is_flag=True, help="Write over a folder that holds other shards.")
@output_options("data.tokenize")
def tokenize(
    text: Path | None,
    out: Path,
    vocabulary: int,
    tokenizer: Path | None,
    validation: float,
    index_words: int | None,
    force: bool,
    output: Output,
) -> None:
    """Learn a tokenizer from text and write token shards.

    Reads .txt and other text files, .jsonl, .jsonl.gz, .jsonl.zst (field "text") and Parquet (column "text"), e.g.
    `isoflop data tokenize --text corpus/ --out shards --vocabulary 8192`.
    """
    write_shards(
        text, out, tokenizer, vocabulary=vocabulary, validation=validation, index_words=index_words, force=force,
        output=output,
    )  # fmt: skip


def write_shards(
    text: Path | None,
    out: Path,
    tokenizer: Path | None,
    *,
    vocabulary: int = 0,
    validation: float,
    index_words: int | None,
    force: bool,
    output: Output,
) -> None:
    """Write and show token shards, of a given tokenizer or of one that is learned with so large a vocabulary."""
    from isoflop.data import corpus
    from isoflop.data.tokenization import tokenize
    from isoflop.data.tokenizer_training import tokenizer_at

    start = time.perf_counter()
    taken = None if tokenizer is None else tokenizer_at(tokenizer)
    source = corpus.source(text)
    shards = tokenize(
        source.documents,
        folder=out,
        vocabulary=vocabulary if taken is None else taken.vocabulary,
        validation_fraction=validation,
        source=source.description,
        tokenizer=taken,
        index_words=index_words,
        force=force,
        on_progress=announce(output),
    )
    payload = _payload(shards, source.skipped, wall_s=time.perf_counter() - start) | {"index_words": index_words}
    output.show(payload, lambda printer: _show(printer, payload))


def announce(output: Output) -> Any:
    """Progress: one line when a stage begins, and then one every ten seconds."""
    last: tuple[str, float] = ("", 0.0)

    def on_progress(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if stage != last[0] or now - last[1] > 10:
            share = f" of {total / 1e6:,.1f}" if total else ""
            output.progress(f"{stage}: {done / 1e6:,.1f}{share} MB")
            last = (stage, now)

    return on_progress


def _payload(shards: "Shards", skipped: dict[str, str], *, wall_s: float) -> dict[str, Any]:
    """Shards as JSON tells of them."""
    header = shards.header
    splits = {
        name: {"n_tokens": split.n_tokens, "n_documents": split.n_documents, "n_bytes": split.n_bytes}
        for name, split in header.splits.items()
    }
    totals = {key: sum(split[key] for split in splits.values()) for key in ("n_tokens", "n_documents", "n_bytes")}
    return {
        "folder": str(shards.folder),
        "source": header.source,
        **totals,
        "bytes_per_token": totals["n_bytes"] / totals["n_tokens"],
        "splits": splits,
        "vocabulary": header.vocabulary,
        "dtype": header.dtype,
        "tokenizer_sha256": header.tokenizer_sha256,
        "content_sha256": header.content_sha256,
        "n_skipped": len(skipped),
        "skipped": skipped,
        "wall_s": wall_s,
    }


def _show(printer: Printer, payload: dict[str, Any]) -> None:
    """The same for people."""
    rows = [
        [name, f"{split['n_documents']:,}", f"{split['n_bytes']:,}", f"{split['n_tokens']:,}"]
        for name, split in [*payload["splits"].items(), ("total", payload)]
    ]
    printer.table(f"{payload['folder']}: {payload['source']}", ["split", "documents", "bytes", "tokens"], rows)
    printer.line(
        f"vocabulary {payload['vocabulary']:,}, {payload['bytes_per_token']:.3f} bytes per token, "
        f"content {payload['content_sha256'][:12]}, {payload['wall_s']:.1f} s"
    )
    reasons = sorted(set(payload["skipped"].values()))
    for reason in reasons[:10]:
        names = [name for name, why in payload["skipped"].items() if why == reason]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        printer.warn(f"skipped, {reason}: {', '.join(names[:3])}{more}")
    if reasons[10:]:
        printer.warn(f"skipped for {len(reasons) - 10} more reasons; --json lists all {payload['n_skipped']} files")
