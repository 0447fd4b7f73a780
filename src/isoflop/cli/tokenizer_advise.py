"""`isoflop tokenizer advise`: which vocabulary to take."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import to_builtins

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.cli.tokenizer_train import PATTERN
from isoflop.errors import UsageError

if TYPE_CHECKING:
    from isoflop.data.compression import Compression
    from isoflop.data.vocabulary_advice import Advice

_WAYS = {"isoflop": "isoFLOP profiles", "derivative": "derivative of FLOP", "loss": "fitted loss"}


@click.command("advise")
@click.option("--params", required=True, metavar="N", help="Parameters of the model outside its vocabulary, e.g. 100M.")
@click.option("--width", type=click.IntRange(min=1), help="Of the model; default: what `isoflop plan` gives that size.")
@click.option("--compute", metavar="FLOP", help="Budget of training; default: the one at which that size is the best.")
@click.option("--text", type=click.Path(path_type=Path), help="Measure compression on this file or folder.")
@click.option("--vocabularies", metavar="V,...", help="Sizes to measure, e.g. 4k,8k,16k; default: around the law's.")
@PATTERN
@click.option("--law", "law_name", default="tao-2024", show_default=True, help="Row of the table of laws to take.")
@output_options("tokenizer.advise")
def advise_command(
    params: str, width: int | None, compute: str | None, text: Path | None, vocabularies: str | None, pattern: str,
    law_name: str, output: Output,
) -> None:  # fmt: skip
    """Which vocabulary to take for a model, by a law and by your text.

    `isoflop tokenizer advise --params 100M --text corpus/`. The law says what is best for the loss on its authors'
    text; measured on yours are bytes per token at several vocabularies, and what a byte then costs this model.
    """
    from isoflop.data.vocabulary_advice import advise
    from isoflop.laws.vocabulary import load

    law = load(law_name)
    n_params = units.parse(params, "parameters", name="--params")
    compute_flop = units.parse(compute, "FLOP", name="--compute") if compute else None
    wide = width or _width(n_params)
    if text is None and vocabularies:
        raise UsageError("--vocabularies: sizes are measured on a text; give one with --text")
    measured = None
    if text is not None:
        around = law.best(n_params=n_params, compute_flop=compute_flop).middle / wide
        measured = _measured(text, _sizes(vocabularies, around), pattern, output)
    found = advise(law, n_params=n_params, width=wide, compression=measured, compute_flop=compute_flop)
    payload = {
        **to_builtins(found),
        "vocabulary_params": float(found.vocabulary * found.width),
        "compression": to_builtins(measured) if measured else None,
        "formula": law.formula,
        "problems": law.problems,
    }

    def page(_: Any) -> Any:
        from isoflop.report import tokenizer_page

        return tokenizer_page.advice(payload)

    output.show(payload, lambda printer: _print(printer, found, measured, law.problems), page=page)


def _width(n_params: float) -> int:
    from isoflop.plan.shape import shape

    return shape(n_params, vocabulary=256, context=1024, counts="non_embedding", tied=True).width


def _sizes(text: str | None, around: float) -> Iterable[int]:
    from isoflop.data.vocabulary_advice import ladder

    if text is None:
        return ladder(around)
    return [round(units.parse(word, "tokens", name="--vocabularies")) for word in text.split(",")]


def _measured(text: Path, sizes: Iterable[int], pattern: str, output: Output) -> "Compression":
    from isoflop.data import compression, corpus, patterns

    chosen = patterns.find(pattern)
    wanted = list(sizes)
    output.progress(f"measure: {', '.join(f'{size:,}' for size in wanted)} tokens")
    return compression.measure(corpus.source(text).documents(), vocabularies=wanted, pattern=chosen.regex)


def _print(printer: Printer, found: "Advice", measured: "Compression | None", problems: list[str]) -> None:
    size = units.show(found.n_params, "parameters")
    answer = f"{found.vocabulary:,} tokens for {size} parameters outside the vocabulary, {found.width} wide"
    printer.line(answer, style="bold")
    said = ", ".join(f"{_WAYS[name]} {value:,.0f}" for name, value in found.by_law.items())
    printer.line(f"by the law: {said} ({found.source.partition(';')[0]})")
    if found.cheapest is not None:
        printer.line(
            f"on this text a byte costs least at {found.cheapest:,}, within 1 % of that from {found.cheapest_lo:,} to "
            f"{found.cheapest_hi:,}"
        )
    _table(printer, found)
    if measured is not None:
        kept = "held out" if measured.held_out else "learned from"
        learned, kept_out = measured.learned_bytes / 1e6, measured.measured_bytes / 1e6
        printer.line(f"learned from {learned:,.1f} MB, measured on {kept_out:,.1f} MB {kept}")
    for warning in found.warnings:
        printer.warn(warning)
    for problem in problems:
        printer.line(f"the law: {problem}")


def _table(printer: Printer, found: "Advice") -> None:
    costs = [row.flop_per_byte for row in found.candidates if row.flop_per_byte is not None]
    rows = [
        [
            f"{row.vocabulary:,}{' *' if row.vocabulary == found.vocabulary else ''}",
            f"{units.show(row.vocabulary_params, 'parameters')}",
            f"{row.share:.1%}",
            f"{row.bytes_per_token:.3f}{'' if row.measured else ' (between)'}" if row.bytes_per_token else "",
            f"{row.flop_per_byte / min(costs) - 1:+.1%}" if row.flop_per_byte else "",
        ]
        for row in found.candidates
    ]
    columns = ["vocabulary", "its parameters", "of all", "bytes per token", "cost of a byte"]
    printer.table("Candidates (* the law's)", columns, rows)
