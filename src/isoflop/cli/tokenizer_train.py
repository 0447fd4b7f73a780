"""`isoflop tokenizer train`: text to tokenizer.json."""

import time
from pathlib import Path
from typing import Any

import click

from isoflop import units
from isoflop.cli.data import announce
from isoflop.cli.shell import Output, Printer, output_options

TEXT = click.option(
    "--text", type=click.Path(path_type=Path), help="File or folder; default: Python's standard library."
)
PATTERN = click.option(
    "--pattern", default="ours", show_default=True, metavar="NAME",
    help="How text is split first: gpt2, gpt4, ours, or digits-1, -2, -3 for digits in ones, twos, threes.",
)  # fmt: skip


@click.command("train")
@TEXT
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--vocabulary", default=1024, show_default=True,
              help="Tokens: the 256 bytes, special tokens and the end of text included.")  # fmt: skip
@PATTERN
@click.option("--special", multiple=True, metavar="NAME", help="A special token, e.g. <|user|>; repeat for more.")
@click.option("--engine", type=click.Choice(["rustbpe", "tokenizers"]), default="rustbpe", show_default=True,
              help="Which library learns; Hugging Face's is slower and breaks ties otherwise.")  # fmt: skip
@click.option("--validation", default=0.08, show_default=True,
              help="Share of documents not learned from, as `data tokenize` holds them out; 0 for none.")  # fmt: skip
@click.option("--sample", default="64MiB", show_default=True, metavar="BYTES",
              help="Learn from no more than this; of a larger text, pieces chosen by a hash.")  # fmt: skip
@click.option("--force", is_flag=True, help="Write over a folder that holds another tokenizer.")
@output_options("tokenizer.train")
def train_command(
    text: Path | None, out: Path, vocabulary: int, pattern: str, special: tuple[str, ...], engine: Any,
    validation: float, sample: str, force: bool, output: Output,
) -> None:  # fmt: skip
    """Learn a tokenizer from text.

    Writes OUT/tokenizer.json, which Hugging Face's `tokenizers` loads, and OUT/training.json, what it was learned from.
    Reads .txt and other text files, .jsonl, .jsonl.gz, .jsonl.zst (field "text") and Parquet (column "text"), e.g.
    `isoflop tokenizer train --text corpus/ --out tokenizer --vocabulary 16384 --special "<|user|>"`. The same text and
    options give the same bytes on any number of threads.
    """
    from isoflop.data import corpus
    from isoflop.data.tokenizer_training import train

    start = time.perf_counter()
    source = corpus.source(text)
    made = train(
        source.documents,
        folder=out,
        vocabulary=vocabulary,
        source=source.description,
        pattern=pattern,
        special=special,
        engine=engine,
        validation_fraction=validation,
        sample_bytes=int(units.parse(sample, "bytes", name="--sample")),
        force=force,
        on_progress=announce(output),
    )
    training = made.training
    payload: dict[str, Any] = {
        "folder": str(out),
        **{name: getattr(training, name) for name in training.__struct_fields__ if name not in {"schema", "stamp"}},
        "sampled": training.sample_bytes < (1 - training.validation_fraction) * training.n_bytes,
        "n_skipped": len(source.skipped),
        "skipped": source.skipped,
        "wall_s": time.perf_counter() - start,
    }
    output.show(payload, lambda printer: _print(printer, payload))


def _print(printer: Printer, payload: dict[str, Any]) -> None:
    special = f", special {', '.join(payload['special'])}" if payload["special"] else ""
    printer.facts(
        f"{payload['folder']}/tokenizer.json",
        [
            ("vocabulary", f"{payload['vocabulary']:,}{special}"),
            ("pattern", payload["pattern"]),
            ("learned from", f"{payload['sample_bytes'] / 1e6:,.1f} of {payload['n_bytes'] / 1e6:,.1f} MB, "
                             f"{payload['n_documents']:,} documents of {payload['source']}"),
            ("engine", f"{payload['engine']} {payload['engine_version']}"),
            ("identity", f"{payload['tokenizer_sha256'][:12]}, {payload['wall_s']:.1f} s"),
        ],
    )  # fmt: skip
    if payload["validation_fraction"]:
        printer.line(f"{payload['validation_fraction']:.0%} of the documents were held out, as `data tokenize` does")
    if payload["n_skipped"]:
        printer.warn(f"{payload['n_skipped']} files were skipped; --json lists them with the reasons")
