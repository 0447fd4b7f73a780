"""The page of a data run: what came in, what each stage dropped and why, samples kept and dropped side by side."""

from collections.abc import Mapping, Sequence

from isoflop import units
from isoflop.data.document import COPIES
from isoflop.data.pipeline import Run, StageResult, Time
from isoflop.data.tally import Count, Sample
from isoflop.report.document import Drawing, fact, grid
from isoflop.report.figures import data as figures
from isoflop.report.law_page import Page, Part
from isoflop.report.markup import Cell, element, escape, paragraph, table


def page(run: Run, times: Sequence[Time] = ()) -> Page:
    """What the page shows beside the words; equal runs give equal pages but for their stamp and their times."""
    first, last = run.stages[0].tally, run.stages[-1].tally
    documents = last.kept.documents / first.came.documents if first.came.documents else 0.0
    kept_bytes = last.kept.bytes / first.came.bytes if first.came.bytes else 0.0
    answers = [
        fact("Came in", f"{first.came.documents:,}", f"documents, {units.show(first.came.bytes, 'bytes')}"),
        fact("Go on", f"{last.kept.documents:,}", f"documents, {units.show(last.kept.bytes, 'bytes')}"),
        fact("Share kept", f"{documents:.1%}", f"of documents, {kept_bytes:.1%} of bytes"),
    ]
    parts = [_flow(run), _reasons(run), _sources(run), _duplicates(run), _marks(run), _times(run, times)]
    samples = [_samples(stage) for stage in run.stages if stage.tally.dropped]
    title = f"{first.came.documents:,} documents came, {last.kept.documents:,} go on"
    return Page(title=title, lead=_lead(run), answers=answers, parts=[*filter(None, parts), *samples])


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


def _sources(run: Run) -> Part | None:
    """A row a source, where there are several."""
    came, kept = run.stages[0].tally.sources, run.stages[-1].tally.sources
    if len(came) < 2:
        return None
    rows = [
        [
            Cell(text=name), Cell(text=f"{passed.came.documents:,}", order=passed.came.documents),
            Cell(text=f"{n.documents:,}", order=n.documents), Cell(text=units.show(passed.came.bytes, "bytes"),
                                                                   order=passed.came.bytes),
            Cell(text=units.show(n.bytes, "bytes"), order=n.bytes),
            Cell(text=f"{n.bytes / passed.came.bytes:.1%}", order=n.bytes / passed.came.bytes)
            if passed.came.bytes else Cell(text="–"),
        ]
        for name, passed in sorted(came.items())
        for n in [kept[name].kept if name in kept else Count()]
    ]  # fmt: skip
    columns = ["source", "documents", "go on", "bytes", "go on", "of bytes"]
    return Part(name="sources", title="Where it came from", tables=table("Sources", columns, rows, sortable=True))


def _duplicates(run: Run) -> Part | None:
    """How many documents those that stayed stand for, and the largest groups."""
    last = run.stages[-1].tally
    found = [(mark, last.marks[mark]) for mark in COPIES if last.marks.get(mark)]
    if not found:
        return None
    drawings = [
        Drawing(
            name=mark.replace(" ", "-"), title=mark.capitalize(),
            said=f"{sum(counts.values()):,} documents stand for {_stand_for(counts):,}.",
            chart=figures.group_sizes(counts),
            caption=f"{sum(counts.values()):,} documents that stayed, by how many like them came, themselves counted "
            "in. All others came once.",
        )
        for mark, counts in found
    ]  # fmt: skip
    rows = [
        [Cell(text=each.id), Cell(text=mark), Cell(text=f"{each.documents:,}", order=each.documents),
         Cell(text=_beginning(each.text))]
        for each, mark in sorted(
            ((each, mark) for mark, _ in found for each in last.copies.get(mark, [])),
            key=lambda pair: (-pair[0].documents, pair[0].id),
        )
    ]  # fmt: skip
    largest = table("The largest groups, by the one that stayed", ["document", "", "came", "begins"], rows)
    return Part(name="duplicates", title="Duplicates", charts=[drawings], tables=largest)


def _stand_for(counts: Mapping[str, int]) -> int:
    return sum(int(value) * n for value, n in counts.items() if value.isdecimal())


def _marks(run: Run) -> Part | None:
    found = [(name, values) for name, values in sorted(run.stages[-1].tally.marks.items()) if name not in COPIES]
    drawings = [
        Drawing(
            name=f"mark-{name}", title=name.capitalize(),
            said="; ".join(f"{value or 'none'}: {n:,}" for value, n in list(values.items())[:20]),
            chart=figures.shares(name, values), caption="Documents that go on, the commonest first.",
        )
        for name, values in found
    ]  # fmt: skip
    return Part(name="marks", title="What the documents are", charts=[drawings]) if drawings else None


def _times(run: Run, times: Sequence[Time]) -> Part | None:
    """Seconds and MB/s of each stage: bytes that came over the processors' seconds of all its passes."""
    if not times:
        return None
    rows = []
    for number, each in enumerate(run.stages):
        own = [time for time in times if time.folder == each.folder]
        wall_s, cpu_s = sum(time.wall_s for time in own), sum(time.cpu_s for time in own)
        rate = each.tally.came.bytes / 1e6 / cpu_s if cpu_s else 0.0
        rows.append([
            Cell(text=f"{number + 1}. {each.name}"), Cell(text=f"{wall_s:,.1f}", order=wall_s),
            Cell(text=f"{cpu_s:,.1f}", order=cpu_s), Cell(text=f"{rate:,.1f}", order=rate),
        ])  # fmt: skip
    columns = ["stage", "seconds", "processor seconds", "MB/s of a core"]
    text = "As each stage was last worked on; one that went on from shards already done shows the rest only."
    return Part(name="times", title="What it took", text=text, tables=table("Times", columns, rows, sortable=True))


def _samples(stage: StageResult) -> Part:
    """A few kept beside a few of each reason, chosen by a hash of their ids."""
    shown = stage.tally.samples
    kept = [_card(each) for each in shown.get("", [])]
    dropped = [
        _card(each, f"{reason}{f': {each.detail}' if each.detail else ''}")
        for reason, samples in sorted(shown.items()) if reason for each in samples
    ]  # fmt: skip
    sides = [
        element("div", element("h3", escape(f"{title} by {stage.name}")) + "".join(cards), class_="samples")
        for title, cards in (("Kept", kept or [paragraph("None.")]), ("Dropped", dropped))
    ]
    return Part(name=f"samples-{stage.folder}", title=f"Samples: {stage.name}", tables=grid(*sides))


def _card(sample: Sample, why: str = "") -> str:
    """One document: its name, why it went, how it begins."""
    said = paragraph(why, class_="why") if why else ""
    name = f"{sample.id} ({sample.source})" if sample.source else sample.id
    return element("article", paragraph(name, class_="id") + said + paragraph(_beginning(sample.text)))


def _beginning(text: str) -> str:
    """The first words on one line."""
    words = " ".join(text.split())
    return words if len(words) <= 240 else f"{words[:240]}…"
