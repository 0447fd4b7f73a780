"""What a ladder of trunks has to show beside its runs: its rates, its noise, its compute."""

from isoflop import units
from isoflop.laws.rates import RateLine
from isoflop.report.content import Sheet
from isoflop.train.ladder_trunks import Ascent


def sheets(found: Ascent) -> list[Sheet]:
    """Tables in the order of the work."""
    rates = [_tried(found.rates), _used(found, found.rates)] if found.rates else []
    return [*rates, _spent(found)]


def _tried(line: RateLine) -> Sheet:
    rows: list[list[str | float]] = [
        [
            f"{best.n_params:,.0f}",
            *_interval(best.learning_rate.value, best.learning_rate.lo, best.learning_rate.hi),
            ", ".join(
                f"{run.learning_rate:.2g}: {'diverged' if run.loss_nats is None else f'{run.loss_nats:.4f}'}"
                for run in best.tried
            ),
            f"the {best.edge} tried" if best.edge else "",
        ]
        for best in line.best
    ]
    return Sheet(
        caption="Learning rates tried", columns=["parameters", "best", "interval", "rate: loss", "edge"], rows=rows
    )


def _used(found: Ascent, line: RateLine) -> Sheet:
    rows: list[list[str | float]] = []
    for size in (*found.layout.sizes, found.layout.proof):
        rate = line.at(size.n_params)
        rows.append([f"{size.n_params:,}", *_interval(rate.value, rate.lo, rate.hi)])
    return Sheet(
        caption="Learning rates by the line",
        columns=["parameters", "rate", "interval"],
        rows=rows,
        note=f"log rate = {line.a:.3g} {line.b:+.3g} log N; the slope leans on published ones.",
    )


def _spent(found: Ascent) -> Sheet:
    noise = found.noise
    rows: list[list[str | float]] = [
        ["all runs", units.show(found.compute_flop, "FLOP")],
        ["points", units.show(found.points_flop, "FLOP")],
        ["the same points as runs of their own", units.show(found.separate_flop, "FLOP")],
        ["saved", f"{found.saved_fraction:.1%}"],
        ["noise between seeds, of the loss", "no repeats" if noise is None else f"{noise.sd:.2%}"],
        ["what the law misses points by beyond it", f"{found.misfit_sd:.2%}"],
    ]
    return Sheet(caption="Compute and noise", columns=["", "value"], rows=rows)


def _interval(value: float, lo: float, hi: float) -> tuple[float, str]:
    return value, f"{lo:.2g} to {hi:.2g}"
