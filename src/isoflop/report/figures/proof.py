"""The picture of proof: what the law said of the kept-out run beforehand, beside what was measured."""

import altair as alt

from isoflop import units
from isoflop.report.content import Content, Forecast
from isoflop.report.figures import axes

_BESIDE = 7  # pixels by which forecast and measurement stand apart at one compute
_ROW = 96


def loss_against_compute(content: Content, *, reach: float | None = None) -> alt.LayerChart | None:
    """Every run's loss against its compute, the law's frontier with its band, the kept-out run; None without losses.

    Args:
        reach: compute up to which the law is drawn; as far as the runs and forecasts go where None.
    """
    fitted = axes.run_rows(content, standing="fitted")
    held_out = axes.run_rows(content, standing="held_out")
    left_out = axes.run_rows(content, standing="left_out")
    if not fitted + held_out and not content.forecasts and not (reach and content.law and content.law.frontier):
        return None
    span = _compute_span(content, fitted + held_out + left_out, reach)
    frontier = [row for row in _frontier(content) if span[0] <= row["compute_flop"] <= span[1]]
    span_loss = _loss_span(content, fitted + held_out, left_out, frontier)
    x, y = axes.log_x("compute_flop", "training compute (FLOP)", span, flop=True), axes.loss_y(span_loss)
    layers: list[alt.Chart] = [*beyond(content, span), *_frontier_layers(frontier, x, y)]
    if fitted:
        colour = axes.size_colour([row["n_params"] for row in fitted])
        layers.append(_points(fitted, x, y).mark_point(style="fitted", filled=True).encode(color=colour))
    layers += axes.left_out(left_out, x, y, top=span_loss[1])
    layers += _forecast_layers(content.forecasts, x, y)
    without = {forecast.run_id for forecast in content.forecasts if forecast.measured_nats is not None}
    if lonely := [row for row in held_out if row["id"] not in without]:
        layers.append(_points(lonely, x, y).mark_point(style="measured", filled=True))
    return axes.layered(layers, height=axes.HEIGHT + 40)


def _compute_span(content: Content, rows: list[axes.Row], reach: float | None) -> tuple[float, float]:
    values = [row["compute_flop"] for row in rows] + [forecast.compute_flop for forecast in content.forecasts]
    if reach is not None and content.law:
        own = [point.compute_flop for point in content.law.frontier if point.compute_flop <= reach]
        return axes.extent([*values, *own], pad=1.0 if own and not values else 1.15)
    low, high = axes.extent(values, pad=1.5)
    return low, high * (2 if content.forecasts else 1)  # room for the words around the forecast


def _loss_span(
    content: Content, rows: list[axes.Row], left_out: list[axes.Row], frontier: list[axes.Row]
) -> tuple[float, float]:
    """From the lowest loss of all to the highest of the runs that count; what lies above stands at the edge.

    A law that the runs hardly determine has a band of any depth: half of the axis at most is its.
    """
    values = [row["loss_nats"] for row in rows + frontier]
    for forecast in content.forecasts:
        values += [forecast.forecast_nats.lo, forecast.forecast_nats.hi]
    if not rows:
        values += [row["loss_nats_hi"] for row in frontier]
    deepest = min(values) ** 2 / max(values) if values else 0.0
    values += [max(row["loss_nats_lo"], deepest) for row in frontier]
    low, high = axes.extent(values, pad=1.04)
    return min([low, *(row["loss_nats"] / 1.04 for row in left_out if row["loss_nats"] is not None)]), high


def _frontier(content: Content) -> list[axes.Row]:
    if content.law is None:
        return []
    return [
        {"compute_flop": point.compute_flop} | axes.interval_row(point.loss_nats, "loss_nats")
        for point in content.law.frontier
    ]


def _frontier_layers(rows: list[axes.Row], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    if not rows:
        return []
    base = alt.Chart(axes.data(rows)).encode(x=x)
    return [
        base.mark_area(style="band", clip=True).encode(y=alt.Y("loss_nats_lo:Q"), y2="loss_nats_hi:Q"),
        base.mark_line(style="law", clip=True).encode(y=y),
    ]


def beyond(content: Content, span: tuple[float, float]) -> list[alt.Chart]:
    """Shade what lies beyond the largest run of the fit."""
    largest = content.max_compute_flop
    if content.law is None or largest is None or largest >= span[1]:
        return []
    base = alt.Chart(axes.data([{"from": largest, "to": span[1]}]))
    x = alt.X("from:Q", scale=alt.Scale(type="log", domain=list(span), nice=False))
    return [
        base.mark_rect(style="beyond").encode(x=x, x2="to:Q"),
        base.mark_text(style="beyond_label", align="left", baseline="top", dx=8, dy=8, text="beyond the fit").encode(
            x=x, y=alt.value(0)
        ),
    ]


def _points(rows: list[axes.Row], x: alt.X, y: alt.Y) -> alt.Chart:
    points: alt.Chart = alt.Chart(axes.data(rows)).encode(x=x, y=y, tooltip=axes.run_tooltip())
    return points


def _forecast_layers(forecasts: list[Forecast], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The interval as a bar, the forecast as the gap in it, the measurement as a diamond beside it, both in words."""
    if not forecasts:
        return []
    said = alt.Chart(axes.data(_said(forecast) for forecast in forecasts)).encode(x=x)
    y_low, y_high = alt.Y("forecast_lo:Q"), alt.Y("forecast_hi:Q")
    layers = [
        said.mark_rule(style="forecast", xOffset=-_BESIDE).encode(y=y_low, y2="forecast_hi:Q", tooltip=_tooltip()),
        said.mark_tick(style="forecast_centre", orient="horizontal", xOffset=-_BESIDE, width=9, height=2).encode(
            y=alt.Y("forecast:Q")
        ),
        said.mark_text(style="forecast_label", baseline="bottom", dy=-10).encode(y=y_high, text="said:N"),
    ]
    seen = [_said(forecast) for forecast in forecasts if forecast.measured_nats is not None]
    if seen:
        base = alt.Chart(axes.data(seen)).encode(x=x)
        lower = alt.Y("lower:Q")
        layers += [
            base.mark_point(style="measured", filled=True, xOffset=_BESIDE).encode(
                y=alt.Y("measured:Q"), tooltip=_tooltip()
            ),
            base.mark_text(style="measured_label", baseline="top", dy=12).encode(y=lower, text="read:N"),
        ]
    return layers


def _said(forecast: Forecast) -> axes.Row:
    interval, got = forecast.forecast_nats, forecast.measured_nats
    return axes.interval_row(interval, "forecast") | {
        "run": forecast.run_id,
        "C": units.show(forecast.compute_flop, "FLOP"),
        "N": units.show(forecast.n_params, "parameters"),
        "compute_flop": forecast.compute_flop,
        "measured": got,
        "lower": interval.lo if got is None else min(interval.lo, got),
        "said": f"forecast {interval.value:.3f}",
        "read": "" if got is None else f"measured {got:.3f}",
        "interval": f"{interval.lo:.3f} to {interval.hi:.3f}",
    }


def _tooltip() -> list[alt.Tooltip]:
    names = {"run": "run", "said": "forecast", "interval": "interval", "read": "measurement"}
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in names.items()]


def forecast_errors(content: Content) -> alt.LayerChart | None:
    """The proof at its own scale: measured minus forecast of each kept-out run in its interval; None without any."""
    rows = [_error(forecast, at) for at, forecast in enumerate(_read(content))]
    if not rows:
        return None
    reach = max(abs(row[key]) for row in rows for key in ("error", "lo", "hi")) * 1.15 or 1e-3
    x = alt.X("lo:Q", scale=alt.Scale(domain=[-reach, reach], nice=False), axis=_error_axis(reach))
    y = alt.Y("at:O", axis=None)
    base = alt.Chart(axes.data(rows)).encode(y=y)
    words = base.encode(x=alt.value(0))
    layers = [
        alt.Chart(axes.data([{"zero": 0.0}])).mark_rule(style="zero").encode(x=alt.X("zero:Q")),
        base.mark_rule(style="forecast_wide").encode(x=x, x2="hi:Q", tooltip=_tooltip()),
        base.mark_tick(style="forecast_centre", orient="vertical", width=2, height=14).encode(x=alt.X("centre:Q")),
        base.mark_point(style="measured", filled=True).encode(x=alt.X("error:Q"), tooltip=_tooltip()),
        words.mark_text(style="row_name", align="left", dy=-36).encode(text="name:N"),
        words.mark_text(style="row_note", align="left", dy=-19).encode(text="words:N"),
    ]
    return axes.layered(layers, height=_ROW * len(rows))


def _read(content: Content) -> list[Forecast]:
    return [forecast for forecast in content.forecasts if forecast.measured_nats is not None]


def _error_axis(reach: float) -> alt.Axis:
    return alt.Axis(title="measured − forecast (nats per token)", labelExpr=axes.signed(reach), tickCount=6)


def _error(forecast: Forecast, at: int) -> axes.Row:
    said, row = forecast.forecast_nats, _said(forecast)
    return row | {
        "at": at,
        "lo": said.lo - said.value,
        "hi": said.hi - said.value,
        "centre": 0.0,
        "error": row["measured"] - said.value,
        "name": f"{row['C']}, {row['N']} parameters",
        "words": f"{row['said']} ({row['interval']}), {row['read']}",
    }
