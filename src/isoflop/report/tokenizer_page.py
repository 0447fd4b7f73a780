"""The pages of tokenizers: what they make of a text, and which vocabulary to take."""

from collections.abc import Mapping
from typing import Any

from isoflop import stamp, units
from isoflop.report.document import Drawing, fact
from isoflop.report.figures import tokenizer as figures
from isoflop.report.law_page import Page, Part
from isoflop.report.markup import Cell, table


def report(answer: Mapping[str, Any]) -> Page:
    """What `isoflop tokenizer report --json` prints, as a page."""
    tokenizers = answer["tokenizers"]
    own = tokenizers[0]
    total, used = own["all"], own["used"]
    hardest, easiest = (pick(own["domains"], key=lambda row: row["bytes_per_token"]) for pick in (min, max))
    spread = f"{hardest['name']} {hardest['bytes_per_token']:.2f}, {easiest['name']} {easiest['bytes_per_token']:.2f}"
    compression = Drawing(
        name="domains",
        title=f"{own['name']}: {total['bytes_per_token']:.2f} bytes per token",
        said=f"Bytes per token of {len(tokenizers)} tokenizers on {len(answer['domains'])} domains; {spread}.",
        chart=figures.by_domain(tokenizers),
        caption="Further right is shorter: a text of so many bytes takes fewer tokens, and a context holds more of it.",
    )
    usage = Drawing(
        name="usage",
        title=f"{used['never']:,} of {own['vocabulary']:,} tokens never occur here",
        said=f"Occurrences of tokens by rank; {used['never']:,} never occur, {used['seldom']:,} fewer than ten times.",
        chart=figures.by_rank(tokenizers),
        caption="A row of the embedding is learned from the occurrences of its token alone. What ends early or falls "
        "steeply was made for another text, or is too large for this one.",
    )
    return Page(
        title=f"What {own['name']} makes of {units.show(total['n_bytes'], 'bytes')} of text",
        lead=f"{own['vocabulary']:,} tokens, {total['bytes_per_token']:.3f} bytes each on average; {spread}.",
        answers=[
            fact("Bytes per token", f"{total['bytes_per_token']:.3f}", spread),
            fact("Never used", f"{used['never'] / own['vocabulary']:.1%}", f"{used['never']:,} tokens"),
        ],
        parts=[
            Part(name="compression", title="Compression by domain", charts=[compression]),
            Part(name="usage", title="Tokens used", charts=[usage], tables=_longest(own)),
        ],
        note=" ".join(f"{note}." for note in answer["notes"]),
        stamp=stamp.make(),
    )


def _longest(own: Mapping[str, Any]) -> str:
    rows = [
        [Cell(text=repr(row["token"])), Cell(text=f"{row['n_bytes']:,}", order=row["n_bytes"]),
         Cell(text=f"{row['occurrences']:,}", order=row["occurrences"])]
        for row in own["longest"]
    ]  # fmt: skip
    return table("The longest tokens", ["token", "bytes", "occurrences"], rows, sortable=True)


def advice(answer: Mapping[str, Any]) -> Page:
    """What `isoflop tokenizer advise --json` prints, as a page."""
    taken, size = answer["vocabulary"], units.show(answer["n_params"], "parameters")
    by_law = answer["by_law"]
    lo, hi = min(by_law.values()), max(by_law.values())
    answers = [fact("By the law", f"{taken:,}", f"between {lo:,.0f} and {hi:,.0f}, by the way of finding it")]
    if answer["cheapest"]:
        near = f"within 1 % from {answer['cheapest_lo']:,} to {answer['cheapest_hi']:,}"
        answers.append(fact("A byte costs least at", f"{answer['cheapest']:,}", near))
    return Page(
        title=f"{taken:,} tokens for {size} parameters outside the vocabulary",
        lead=f"By {answer['source']}.",
        answers=answers,
        parts=[Part(name="measured", title="On this text", charts=_charts(answer, by_law))],
        stamp=stamp.make(),
    )


def _charts(answer: Mapping[str, Any], by_law: Mapping[str, float]) -> list[Drawing]:
    rows = answer["candidates"]
    measured = [row for row in rows if row["measured"]]
    absent = "No text was given, or it was measured at one vocabulary only: --text FILE measures it."
    several = len(measured) > 1
    said = ", ".join(f"{row['bytes_per_token']:.2f} at {row['vocabulary']:,}" for row in measured)
    return [
        Drawing(
            name="cost",
            title="What the same text costs this model",
            said=f"Cost of a byte against the vocabulary; least at {answer['cheapest'] or 0:,}.",
            chart=figures.cost(rows, by_law=list(by_law.values())) if several else None,
            caption="6 FLOP for each parameter and token, attention left aside. Right of the least the text grows "
            "shorter more slowly than the head grows wider.",
            absent=absent,
            key=(("dashed", "by the law"),),
        ),
        Drawing(
            name="compression",
            title="Bytes per token by vocabulary",
            said=f"Bytes per token: {said or 'not measured'}.",
            chart=figures.compression(rows) if several else None,
            absent=absent,
        ),
    ]
