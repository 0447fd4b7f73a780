"""What became of a corpus: bytes through the stages, lengths before and after, values of a mark."""

from collections.abc import Mapping, Sequence

import altair as alt

from isoflop import units
from isoflop.report.figures import axes

_FATES = {"kept": "#1f4e79", "dropped": "#c2410c", "cut away": "#7a6a12"}  # 3:1 and more to white, unlike in lightness
_BYTES = "format(datum.value, '~s') + 'B'"
_BINARY = (
    "datum.value >= 1073741824 ? datum.value / 1073741824 + ' GiB' : datum.value >= 1048576 ? "
    "datum.value / 1048576 + ' MiB' : datum.value >= 1024 ? datum.value / 1024 + ' KiB' : datum.value + ' B'"
)


def flow(stages: Sequence[tuple[str, float, float, float]]) -> alt.LayerChart:
    """A bar a stage: bytes that came, told by what became of them.

    Args:
        stages: (name, bytes came, kept, dropped); what is neither was cut out of documents that stayed.
    """
    rows: list[axes.Row] = []
    names = [f"{number}. {name}" for number, (name, *_) in enumerate(stages, 1)]
    for name, (_, came, kept, dropped) in zip(names, stages, strict=True):
        at = 0.0
        for fate, size in (("kept", kept), ("cut away", max(0.0, came - kept - dropped)), ("dropped", dropped)):
            if size:
                rows.append(
                    {"stage": name, "fate": fate, "from": at, "to": at + size, "size": units.show(size, "bytes")}
                )
            at += size
    x = alt.X("from:Q", axis=alt.Axis(title="bytes", labelExpr=_BYTES))
    tooltip = [alt.Tooltip(f"{field}:N") for field in ("stage", "fate", "size")]
    bars = alt.Chart(axes.data(rows)).mark_bar(height=18)
    y = alt.Y("stage:N", sort=names, title=None)
    return axes.layered([bars.encode(x=x, x2="to:Q", y=y, color=_colour(), tooltip=tooltip)], height=34 * len(stages))


def lengths(before: Mapping[int, int], after: Mapping[int, int]) -> alt.LayerChart:
    """Documents by length as they came in and as they go on, one line each; bins are powers of two.

    Args:
        before, after: bits of the length in bytes -> documents.
    """
    rows: list[axes.Row] = [
        {"bytes": 2 ** max(0, bits - 1), "documents": counts.get(bits, 0), "when": when}
        for when, counts in (("at the end", after), ("as it came", before))
        for bits in range(min([*before, *after]), max([*before, *after]) + 1)
    ]
    colour = alt.Color(
        "when:N", legend=alt.Legend(title=None),
        scale=alt.Scale(domain=["as it came", "at the end"], range=["#c2410c", "#1f4e79"]),
    )  # fmt: skip
    x = alt.X("bytes:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(title="length", labelExpr=_BINARY))
    tooltip = [alt.Tooltip(field) for field in ("when:N", "bytes:Q", "documents:Q")]
    line = alt.Chart(axes.data(rows)).mark_line(interpolate="step-after", point=False, strokeWidth=2)
    return axes.layered([line.encode(x=x, y=alt.Y("documents:Q"), color=colour, tooltip=tooltip)], height=240)


def shares(name: str, counts: Mapping[str, int], *, most: int = 20) -> alt.LayerChart:
    """The commonest values of a mark among kept documents."""
    common = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    rows: list[axes.Row] = [{name: value or "none", "documents": n} for value, n in common[:most]]
    if rest := sum(n for _, n in common[most:]):
        rows.append({name: f"{len(common) - most} others", "documents": rest})
    y = alt.Y(f"{name}:N", sort=[row[name] for row in rows], title=None)
    bars = alt.Chart(axes.data(rows)).mark_bar(color=_FATES["kept"], height=14)
    tooltip = [alt.Tooltip(f"{name}:N"), alt.Tooltip("documents:Q")]
    x = alt.X("documents:Q", axis=alt.Axis(tickMinStep=1, tickCount=5))
    return axes.layered([bars.encode(x=x, y=y, tooltip=tooltip)], height=24 * len(rows))


def group_sizes(counts: Mapping[str, int]) -> alt.LayerChart:
    """Kept documents by the number of documents each stands for, in powers of two.

    Args:
        counts: that number as text -> kept documents.
    """
    sizes: dict[int, int] = {}
    for value, n in counts.items():
        if value.isdecimal():
            bits = (int(value) - 1).bit_length()  # 2; 3 and 4; 5 to 8; ...
            sizes[bits] = sizes.get(bits, 0) + n
    names = {bits: f"{2 ** (bits - 1) + 1:,} to {2**bits:,}" if bits > 1 else "2" for bits in range(1, max(sizes) + 1)}
    rows: list[axes.Row] = [{"came": name, "documents": sizes.get(bits, 0)} for bits, name in names.items()]
    y = alt.Y("came:N", sort=list(names.values()), title="documents alike")
    bars = alt.Chart(axes.data(rows)).mark_bar(color=_FATES["kept"], height=14)
    x = alt.X("documents:Q", title="groups", axis=alt.Axis(tickMinStep=1, tickCount=5))
    tooltip = [alt.Tooltip("came:N"), alt.Tooltip("documents:Q")]
    return axes.layered([bars.encode(x=x, y=y, tooltip=tooltip)], height=24 * len(rows))


def _colour() -> alt.Color:
    scale = alt.Scale(domain=list(_FATES), range=list(_FATES.values()))
    return alt.Color("fate:N", scale=scale, legend=alt.Legend(title=None, symbolType="square"))
