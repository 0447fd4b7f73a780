"""How far to trust a classifier: what it said against what was true, and what a bound keeps."""

from collections.abc import Sequence

import altair as alt

from isoflop.report.figures import axes

_POINT, _LINE = "#1f4e79", "#6b7280"


def reliability(bins: Sequence[tuple[float, float, int]]) -> alt.LayerChart:
    """Points near the diagonal.

    Args:
        bins: (probability said on average, share it was true of, documents).
    """
    rows: list[axes.Row] = [{"said": said, "true": true, "documents": n} for said, true, n in bins]
    scale = alt.Scale(domain=[0, 1])
    x, y = alt.X("said:Q", scale=scale, title="probability said"), alt.Y("true:Q", scale=scale, title="share true")
    diagonal = alt.Chart(axes.data([{"said": 0.0, "true": 0.0}, {"said": 1.0, "true": 1.0}]))
    tooltip = [alt.Tooltip("said:Q", format=".3f"), alt.Tooltip("true:Q", format=".3f"), alt.Tooltip("documents:Q")]
    points = alt.Chart(axes.data(rows)).mark_point(filled=True, size=70, color=_POINT, opacity=1)
    return axes.layered(
        [diagonal.mark_line(color=_LINE, strokeDash=[4, 3]).encode(x=x, y=y), points.encode(x=x, y=y, tooltip=tooltip)],
        height=260,
    )


def kept(shares: Sequence[tuple[float, str, float]]) -> alt.LayerChart:
    """A line a label.

    Args:
        shares: (least probability, label, share of its documents kept).
    """
    rows: list[axes.Row] = [{"least": least, "label": label, "kept": share} for least, label, share in shares]
    x = alt.X("least:Q", title="least probability", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("kept:Q", title="share kept", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    tooltip = [alt.Tooltip("least:Q"), alt.Tooltip("label:N"), alt.Tooltip("kept:Q", format=".1%")]
    line = alt.Chart(axes.data(rows)).mark_line(point=True)
    return axes.layered([line.encode(x=x, y=y, color=alt.Color("label:N", legend=alt.Legend(title=None)),
                                     tooltip=tooltip)], height=260)  # fmt: skip
