"""Charts of a choice of mixture: the loss over the share of each domain, the choice, and the check."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from isoflop.laws.law import Array
from isoflop.laws.mixture import MixtureLaw
from isoflop.laws.mixture_advice import Advice
from isoflop.laws.mixture_trust import new_runs
from isoflop.report.figures import axes
from isoflop.train.mix import Said

_SAMPLES = 33
_ROW = 46
_HEIGHT = 240
_SHARES = alt.Scale(type="sqrt", domain=[0, 1], nice=False)  # small shares matter most
_PERCENT: dict[str, Any] = {"format": "~%", "values": [0.01, 0.1, 0.25, 0.5, 1]}


def loss_over_share(law: MixtureLaw, advice: Advice, domain: str) -> alt.LayerChart:
    """The weighted loss of every run against its share of one domain, and the law with the others as in the choice."""
    place = law.domains.index(domain)
    weights = np.array([advice.target.get(name, 0.0) for name in law.targets])
    runs: list[axes.Row] = [
        {"share": float(share), "loss": float(loss)}
        for share, loss in zip(law.proportions_RD[:, place], law.losses_RT @ weights, strict=True)
    ]
    line = _line(law, advice, place)
    bounds = [row["loss"] for row in runs + line]
    room = 0.05 * (max(bounds) - min(bounds))
    scale = alt.Scale(domain=[min(bounds) - room, max(bounds) + room], nice=False, zero=False)
    y = alt.Y("loss:Q", scale=scale, axis=alt.Axis(title="loss that counts (nats)", format="~g", tickCount=5))
    x = alt.X("share:Q", scale=_SHARES, axis=alt.Axis(title=f"share of {domain}", **_PERCENT))
    shown = alt.Chart(axes.data(line)).encode(x=x)
    best = advice.domains[domain]
    chosen = {"share": best.share.value, "loss": advice.loss_nats.value}
    return axes.layered(
        [
            shown.mark_area(style="band", clip=True).encode(y=alt.Y("lo:Q", scale=scale, title=None), y2="hi:Q"),
            alt.Chart(axes.data(runs)).mark_point(style="plain", filled=True).encode(x=x, y=y, tooltip=_TOOLTIP),
            shown.mark_line(style="law", clip=True).encode(y=y),
            alt.Chart(axes.data([chosen])).mark_point(style="minimum", filled=True).encode(x=x, y=y, tooltip=_TOOLTIP),
        ],
        height=_HEIGHT,
    )


_TOOLTIP = [alt.Tooltip("share:Q", format=".3f"), alt.Tooltip("loss:Q", format=".4f")]


def _line(law: MixtureLaw, advice: Advice, place: int) -> list[axes.Row]:
    """The law along one share between those tried, all others in proportion to the choice."""
    shares = advice.shares
    low, high = list(advice.domains.values())[place].tried_lo, float(law.proportions_RD[:, place].max())
    at = np.linspace(np.sqrt(low), np.sqrt(high), _SAMPLES) ** 2
    others = shares * (np.arange(shares.size) != place)
    others = others if others.sum() else (np.arange(shares.size) != place).astype(float)
    mixtures: Array = (1 - at[:, None]) * others / others.sum()
    mixtures[:, place] = at
    said = new_runs(law, advice.target, mixtures)
    return [
        {"share": float(share), "loss": each.value, "lo": each.lo, "hi": each.hi}
        for share, each in zip(at, said, strict=True)
    ]


def proportions(advice: Advice, natural: Mapping[str, float] | None) -> alt.LayerChart:
    """The share of each domain in the choice, what would do as well, and the natural share."""
    rows: list[axes.Row] = [
        {
            "at": at,
            "name": name,
            "share": each.share.value,
            "lo": each.share.lo,
            "hi": each.share.hi,
            "flat_lo": each.flat_lo,
            "flat_hi": each.flat_hi,
            "words": f"{each.share.value:.1%}; as good: {each.flat_lo:.1%} to {each.flat_hi:.1%}",
        }
        for at, (name, each) in enumerate(advice.domains.items())
    ]
    x = alt.X("flat_lo:Q", scale=_SHARES, axis=alt.Axis(title="share of training tokens", **_PERCENT))
    base = alt.Chart(axes.data(rows)).encode(y=alt.Y("at:O", axis=None))
    words = base.encode(x=alt.value(0))
    layers = [
        base.mark_rule(style="claimed").encode(x=x, x2="flat_hi:Q"),
        base.mark_rule(style="scatter").encode(x=alt.X("lo:Q"), x2="hi:Q"),
        base.mark_point(style="minimum", filled=True).encode(x=alt.X("share:Q")),
        words.mark_text(style="row_name", align="left", dy=-16).encode(text="name:N"),
        words.mark_text(style="row_note", align="left", dx=190, dy=-16).encode(text="words:N"),
    ]
    if natural:
        own = [{"at": row["at"], "natural": natural[row["name"]]} for row in rows]
        layers.append(
            alt.Chart(axes.data(own))
            .mark_point(style="left_out", filled=False)
            .encode(x=alt.X("natural:Q"), y=alt.Y("at:O", axis=None))
        )
    return axes.layered(layers, height=_ROW * len(rows))


def comparison(checks: Sequence[Said]) -> alt.LayerChart | None:
    """Forecast interval and measured loss of each mixture of the check; None before there is a check."""
    if not checks:
        return None
    rows: list[axes.Row] = [
        {
            "at": at,
            "name": each.mixture,
            "lo": each.loss_nats.lo,
            "hi": each.loss_nats.hi,
            "centre": each.loss_nats.value,
            "measured": each.measured_nats,
            "words": f"forecast {each.loss_nats.value:.4f} ({each.loss_nats.lo:.4f} to {each.loss_nats.hi:.4f})"
            + ("" if each.measured_nats is None else f", measured {each.measured_nats:.4f}"),
        }
        for at, each in enumerate(checks)
    ]
    ends = [row[key] for row in rows for key in ("lo", "hi", "measured") if row[key] is not None]
    room = 0.05 * (max(ends) - min(ends)) or 1e-3
    x = alt.X("lo:Q", scale=alt.Scale(domain=[min(ends) - room, max(ends) + room], nice=False, zero=False),
              axis=alt.Axis(title="loss that counts (nats per token)", format="~g", tickCount=6))  # fmt: skip
    base = alt.Chart(axes.data(rows)).encode(y=alt.Y("at:O", axis=None))
    words = base.encode(x=alt.value(0))
    seen = alt.Chart(axes.data([row for row in rows if row["measured"] is not None])).encode(y=alt.Y("at:O", axis=None))
    return axes.layered(
        [
            base.mark_rule(style="forecast_wide").encode(x=x, x2="hi:Q"),
            base.mark_tick(style="forecast_centre", orient="vertical", width=2, height=14).encode(x=alt.X("centre:Q")),
            seen.mark_point(style="measured", filled=True).encode(x=alt.X("measured:Q")),
            words.mark_text(style="row_name", align="left", dy=-18).encode(text="name:N"),
            words.mark_text(style="row_note", align="left", dx=110, dy=-18).encode(text="words:N"),
        ],
        height=int(_ROW * 1.3) * len(rows),
    )
