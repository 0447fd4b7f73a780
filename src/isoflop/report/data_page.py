"""The page of a data run: what came in, what each stage dropped and why, samples kept and dropped side by side."""

from isoflop import units
from isoflop.data.pipeline import Run, StageResult
from isoflop.data.tally import Sample
from isoflop.report.document import Drawing, fact, grid
from isoflop.report.figures import data as figures
from isoflop.report.law_page import Page, Part
from isoflop.report.markup import Cell, table


def page(run: Run) -> Page:
    """What the page shows beside the words; equal runs give equal pages but for their stamp."""
    first, last = run.stages[0].tally, run.stages[-1].tally
    share = last.kept.documents / first.came.documents if first.came.documents else 0.0
    answers = [
        fact("Came in", f"{first.came.documents:,}", f"documents, {units.show(first.came.bytes, 'bytes')}"),
        fact("Go on", f"{last.kept.documents:,}", f"documents, {units.show(last.kept.bytes, 'bytes')}"),
        fact("Share kept", f"{share:.1%}", "of documents"),
    ]
    parts = [_flow(run), _reasons(run), *(_samples(stage) for stage in run.stages if stage.tally.dropped)]
    if marks := _marks(run):
        parts.insert(2, marks)
    title = f"{first.came.documents:,} documents came, {last.kept.documents:,} go on"
    return Page(title=title, lead=_lead(run), answers=answers, parts=parts)


def _lead(run: Run) -> str:
    """The dearest reasons in a sentence."""
    found = [
        (count.documents, reason, each.name) for each in run.stages for reason, count in each.tally.dropped.items()
    ]
    if not found:
        return "Nothing was dropped."
    common = sorted(found, key=lambda each: (-each[0], each[1:]))[:3]
    return "Most were dropped for: " + ", ".join(f"{reason} ({name}, {n:,})" for n, reason, name in common) + "."


def _flow(run: Run) -> Part:
    rows = [
        (each.name, float(each.tally.came.bytes), float(each.tally.kept.bytes),
         float(sum(count.bytes for count in each.tally.dropped.values())))
        for each in run.stages
    ]  # fmt: skip
    before, after = run.stages[0].tally.kept_lengths, run.stages[-1].tally.kept_lengths
    drawings = [
        Drawing(
            name="flow",
            title="Bytes through the stages",
            said="; ".join(f"{name}: {units.show(kept, 'bytes')} of {units.show(came, 'bytes')} kept"
                           for name, came, kept, _ in rows),
            chart=figures.flow(rows),
            caption="Each bar is what came to a stage. Cut away is what a stage took out of documents that it kept, "
            "such as the menus of a page.",
        ),
        Drawing(
            name="lengths",
            title="Lengths",
            said="Documents by length, as they came and at the end.",
            chart=figures.lengths(before, after) if before or after else None,
            caption="Documents from each power of two bytes to the next; the first line counts pages with their "
            "markup. The axis of lengths is logarithmic.",
            absent="No document came in.",
        ),
    ]  # fmt: skip
    return Part(name="flow-part", title="What came in and what goes on", charts=drawings)


def _reasons(run: Run) -> Part:
    rows = [
        [
            Cell(text=each.name), Cell(text=reason), Cell(text=f"{count.documents:,}", order=count.documents),
            Cell(text=f"{count.documents / each.tally.came.documents:.2%}", order=count.documents),
            Cell(text=units.show(count.bytes, "bytes"), order=count.bytes),
        ]
        for each in run.stages
        for reason, count in sorted(each.tally.dropped.items(), key=lambda pair: (-pair[1].documents, pair[0]))
    ]  # fmt: skip
    columns = ["stage", "reason", "documents", "of what came to it", "bytes"]
    return Part(
        name="reasons",
        title="What was dropped and why",
        text="" if rows else "Nothing was dropped.",
        tables=table("Dropped, by stage and reason", columns, rows, sortable=True) if rows else "",
    )


def _marks(run: Run) -> Part | None:
    found = sorted(run.stages[-1].tally.marks.items())
    drawings = [
        Drawing(
            name=f"mark-{name}", title=name, said=f"Kept documents by {name}.", chart=figures.shares(name, values),
            caption="Kept documents by value, the commonest first.",
        )
        for name, values in found
    ]  # fmt: skip
    return Part(name="marks", title="What the documents are", charts=drawings) if drawings else None


def _samples(stage: StageResult) -> Part:
    """A few kept beside a few of each reason, chosen by a hash of their ids."""
    shown = stage.tally.samples
    kept = [[Cell(text=each.id), Cell(text=_beginning(each))] for each in shown.get("", [])]
    dropped = [
        [Cell(text=each.id), Cell(text=f"{reason}{f': {each.detail}' if each.detail else ''}"),
         Cell(text=_beginning(each))]
        for reason, samples in sorted(shown.items()) if reason for each in samples
    ]  # fmt: skip
    left = table(f"Kept by {stage.name}", ["document", "begins"], kept)
    right = table(f"Dropped by {stage.name}", ["document", "why", "begins"], dropped)
    return Part(name=f"samples-{stage.folder}", title=f"Samples: {stage.name}", tables=grid(left, right))


def _beginning(sample: Sample) -> str:
    """The first words on one line."""
    words = " ".join(sample.text.split())
    return words if len(words) <= 240 else f"{words[:240]}…"
