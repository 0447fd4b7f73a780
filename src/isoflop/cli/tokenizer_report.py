"""`isoflop tokenizer report`: what a tokenizer makes of a text, beside others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.cli.tokenizer_encode import TOKENIZER
from isoflop.errors import InputError

if TYPE_CHECKING:
    from isoflop.data.domains import Domain
    from isoflop.data.encoders import Encoder
    from isoflop.data.tokenizer_report import Report

_SCRIPTS_SHOWN = 12
_TOKENS_SHOWN = 8


@click.command("report")
@TOKENIZER
@click.option("--text", "texts", type=click.Path(path_type=Path), multiple=True, required=True,
              help="File or folder; its subfolders and data files are domains. Repeat for more.")  # fmt: skip
@click.option("--against", multiple=True, metavar="TOKENIZER",
              help="Another tokenizer.json or folder, or an encoding of tiktoken's; repeat for more.")  # fmt: skip
@click.option("--sample", default="8MiB", show_default=True, metavar="BYTES",
              help="Measure no more than this of each domain, chosen by a hash.")  # fmt: skip
@output_options("tokenizer.report")
def report_command(tokenizer: Path, texts: Sequence[Path], against: Sequence[str], sample: str, output: Output) -> None:
    """What TOKENIZER makes of a text: compression, fertility, tokens used, numbers.

    `isoflop tokenizer report tok --text corpus/ --against other/tokenizer.json --html page.html`. Encodings that
    tiktoken publishes are measured beside it where their files are on this machine; nothing is downloaded.
    """
    from isoflop.data.domains import domains
    from isoflop.data.encoders import Own
    from isoflop.data.tokenizer_report import report
    from isoflop.data.tokenizer_training import tokenizer_at

    limit = int(units.parse(sample, "bytes", name="--sample"))
    own = Own(tokenizer_at(tokenizer), name=tokenizer.resolve().stem)
    others, notes = _others(against)
    found = domains(texts, sample_bytes=limit, on_progress=lambda name: output.progress(f"read: {name}"))
    reports = []
    for encoder in (own, *others):
        output.progress(f"measure: {encoder.name}")
        reports.append(report(encoder, found))
    payload = _payload(reports, found, notes)

    def page(_: Any) -> Any:
        from isoflop.report import tokenizer_page

        return tokenizer_page.report(payload)

    output.show(payload, lambda printer: _print(printer, payload), page=page)


def _others(against: Sequence[str]) -> "tuple[list[Encoder], list[str]]":
    """Those asked for, and tiktoken's where they are here; why one is not."""
    from isoflop.data.encoders import PUBLISHED, Tiktoken, named

    found, notes = [named(name) for name in against], []
    for name in PUBLISHED.keys() - set(against):
        try:
            found.append(Tiktoken(name))
        except InputError as error:
            notes.append(f"left out, {error}")
    return found, sorted(notes)


def _payload(reports: "Sequence[Report]", found: "Sequence[Domain]", notes: list[str]) -> dict[str, Any]:
    return {
        "domains": [
            {
                "name": domain.name,
                "n_documents": domain.n_documents,
                "n_bytes": domain.n_bytes,
                "sample_bytes": domain.sample_bytes,
                "skipped": domain.skipped,
            }
            for domain in found
        ],
        "tokenizers": [_tokenizer(each) for each in reports],
        "notes": notes,
    }


def _tokenizer(each: "Report") -> dict[str, Any]:
    from isoflop.data.spelling import shown

    used = each.used
    return {
        "name": each.name,
        "vocabulary": each.vocabulary,
        "domains": [_domain(row) for row in each.domains],
        "all": _domain(each.total),
        "scripts": [
            {
                "name": row.script,
                "n_words": row.n_words,
                "n_characters": row.n_characters,
                "n_bytes": row.n_bytes,
                "n_tokens": row.n_tokens,
                "tokens_per_word": row.tokens_per_word,
                "tokens_per_character": row.tokens_per_character,
            }
            for row in each.scripts
        ],
        "used": {
            "n_tokens": used.n_tokens,
            "never": used.never,
            "seldom": used.seldom,
            "longest_never": [shown(token) for token in used.examples],
            "by_rank": used.by_rank,
        },
        "longest": [
            {"id": row.id, "token": shown(row.token), "n_bytes": len(row.token), "occurrences": row.occurrences}
            for row in each.longest
        ],
        "digits": {"numbers": each.digits.numbers, "tokens_by_length": each.digits.tokens},
    }


def _domain(row: Any) -> dict[str, Any]:
    return {
        "name": row.domain,
        "n_bytes": row.n_bytes,
        "n_tokens": row.n_tokens,
        "n_words": row.n_words,
        "bytes_per_token": row.bytes_per_token,
        "tokens_per_word": row.tokens_per_word,
    }


def _print(printer: Printer, payload: dict[str, Any]) -> None:
    all_of_them = payload["tokenizers"]
    names = [f"{each['name']} ({each['vocabulary']:,})" for each in all_of_them]
    rows = [
        [domain["name"], f"{domain['sample_bytes'] / 1e6:,.2f}"]
        + [f"{each['domains'][i]['bytes_per_token']:.3f}" for each in all_of_them]
        for i, domain in enumerate(payload["domains"])
    ]
    rows.append(
        ["all", f"{all_of_them[0]['all']['n_bytes'] / 1e6:,.2f}"]
        + [f"{each['all']['bytes_per_token']:.3f}" for each in all_of_them]
    )
    printer.table("Bytes per token", ["domain", "MB measured", *names], rows)
    printer.table("Fertility: tokens per word (c: per character)", ["script", "words", *names], _scripts(all_of_them))
    for each in all_of_them:
        _print_one(printer, each)
    for note in payload["notes"]:
        printer.line(note)
    for domain in payload["domains"]:
        if domain["skipped"]:
            printer.warn(f"{domain['name']}: {len(domain['skipped'])} files were skipped; --json lists them")


def _scripts(tokenizers: Sequence[dict[str, Any]]) -> list[list[str]]:
    by_name = [{row["name"]: row for row in each["scripts"]} for each in tokenizers]
    return [
        [row["name"], f"{row['n_words']:,}", *(_fertility(found[row["name"]]) for found in by_name)]
        for row in tokenizers[0]["scripts"][:_SCRIPTS_SHOWN]
    ]


def _fertility(row: dict[str, Any]) -> str:
    word = row["tokens_per_word"]
    return f"{word:.3f}" if word is not None else f"{row['tokens_per_character']:.3f} c"


def _print_one(printer: Printer, each: dict[str, Any]) -> None:
    used, vocabulary = each["used"], each["vocabulary"]
    longest = ", ".join(repr(row["token"]) for row in each["longest"][:_TOKENS_SHOWN])
    numbers = "  ".join("|".join(pieces) for pieces in each["digits"]["numbers"].values())
    lengths = each["digits"]["tokens_by_length"]
    by_length = ", ".join(f"{count:,} of {length}" for length, count in lengths.items() if count)
    printer.facts(
        each["name"],
        [
            ("tokens never used", f"{used['never']:,} of {vocabulary:,} ({used['never'] / vocabulary:.1%})"),
            ("seldom, under 10 times", f"{used['seldom']:,} ({used['seldom'] / vocabulary:.1%})"),
            ("longest tokens", longest),
            ("numbers", numbers),
            ("tokens of digits alone", f"{by_length or 'none'} (5: five and more)"),
        ],
    )
