"""Charts of tokenizers: compression by domain and by vocabulary, and how often tokens are used."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from isoflop.report.figures import axes

_ROW = 26


def _colour(names: Sequence[str]) -> alt.Color:
    legend = alt.Legend(title=None, symbolType="circle") if len(names) > 1 else None
    return alt.Color("tokenizer:N", scale=alt.Scale(domain=list(names), scheme="dark2"), sort=None, legend=legend)


def by_domain(tokenizers: Sequence[dict[str, Any]]) -> alt.LayerChart:
    """Bytes per token, one line of marks a domain, one colour a tokenizer."""
    names = [each["name"] for each in tokenizers]
    rows = [
        {"tokenizer": each["name"], "domain": row["name"], "value": row["bytes_per_token"]}
        for each in tokenizers
        for row in each["domains"]
    ]
    x = alt.X(
        "value:Q",
        title="bytes per token",
        scale=alt.Scale(zero=False, nice=True, padding=12),
        axis=alt.Axis(tickCount=6),
    )
    y = alt.Y("domain:N", title=None, sort=None, axis=alt.Axis(labelLimit=220))
    tooltip = [alt.Tooltip("tokenizer:N"), alt.Tooltip("domain:N"), alt.Tooltip("value:Q", format=".3f")]
    marks = alt.Chart(axes.data(rows)).mark_point(filled=True, size=110, opacity=0.9)
    height = max(3, len({row["domain"] for row in rows})) * _ROW
    return axes.layered([marks.encode(x=x, y=y, color=_colour(names), tooltip=tooltip)], height=height)


def by_rank(tokenizers: Sequence[dict[str, Any]]) -> alt.LayerChart:
    """Occurrences of the tokens that occur, most frequent first, on logarithmic axes."""
    names = [each["name"] for each in tokenizers]
    rows = [
        {"tokenizer": each["name"], "rank": rank, "count": count}
        for each in tokenizers
        for rank, count in each["used"]["by_rank"]
    ]
    x = axes.log_x("rank", "rank of the token", axes.extent((row["rank"] for row in rows), pad=1.2))
    y = axes.log_y("count", "occurrences", axes.extent((row["count"] for row in rows), pad=1.3))
    tooltip = [alt.Tooltip("tokenizer:N"), alt.Tooltip("rank:Q", format=","), alt.Tooltip("count:Q", format=",")]
    line = alt.Chart(axes.data(rows)).mark_line(strokeWidth=1.8)
    return axes.layered([line.encode(x=x, y=y, color=_colour(names), tooltip=tooltip)], height=axes.HEIGHT - 100)


def compression(candidates: Sequence[dict[str, Any]]) -> alt.LayerChart:
    """Bytes per token against the vocabulary, measured."""
    rows = [row for row in candidates if row["measured"]]
    x = _vocabulary([row["vocabulary"] for row in rows])
    y = alt.Y("bytes_per_token:Q", title="bytes per token", scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("vocabulary:Q", format=","), alt.Tooltip("bytes_per_token:Q", format=".3f")]
    base = alt.Chart(axes.data(rows)).encode(x=x, y=y, tooltip=tooltip)
    return axes.layered([base.mark_line(style="law"), base.mark_point(style="fitted", filled=True)], height=260)


def cost(candidates: Sequence[dict[str, Any]], *, by_law: Sequence[float]) -> alt.LayerChart:
    """Cost of a byte of text over the least, against the vocabulary, with the law's answers as lines."""
    rows = [dict(row) for row in candidates if row["flop_per_byte"] is not None]
    least = min(row["flop_per_byte"] for row in rows)
    for row in rows:
        row["above"] = row["flop_per_byte"] / least - 1
    x = _vocabulary([row["vocabulary"] for row in rows] + list(by_law))
    y = alt.Y("above:Q", title="cost of a byte over the least", axis=alt.Axis(format="+.0%"))
    tooltip = [alt.Tooltip("vocabulary:Q", format=","), alt.Tooltip("above:Q", format="+.1%")]
    base = alt.Chart(axes.data(rows)).encode(x=x, y=y, tooltip=tooltip)
    lines = alt.Chart(axes.data({"vocabulary": value} for value in by_law)).mark_rule(style="end").encode(x=x)
    return axes.layered([lines, base.mark_line(style="law"), base.mark_point(style="fitted", filled=True)], height=260)


def _vocabulary(sizes: Sequence[float]) -> alt.X:
    return axes.log_x("vocabulary", "vocabulary", axes.extent(sizes, pad=1.15))
