"""From a fitted law to the values a page draws from: the joint between `laws` and the figures."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from isoflop.laws.cautions import FAR
from isoflop.laws.fitted import Fit
from isoflop.laws.law import formula
from isoflop.laws.lint import within_noise
from isoflop.laws.profiles import Approach2
from isoflop.laws.table import RunTable
from isoflop.laws.uncertainty import residual_sd
from isoflop.report.content import Backtest, Content, FrontierPoint, Law, Profile, ProfilePoint
from isoflop.report.contours import contours
from isoflop.specs.run import Run

DRAWN = 400  # runs on a page: more points hide each other and make it slow
FRONTIER_POINTS = 33


def content(
    fitted: Fit,
    read: RunTable | None = None,
    second: Approach2 | None = None,
    *,
    title: str,
    reach: float | None = None,
) -> Content:
    """What the charts of a law draw from.

    Args:
        read: the runs it was fitted to and those left out; without them (a saved or published law) the law alone.
        reach: compute up to which it is followed; FAR times its dearest run where None.
    """
    names = _unique(read.labels) if read else []
    reasons = dict(place.split(": ", 1) for place in fitted.dropped if ": " in place)
    seen = [label in fitted.residuals for label in (read.labels if read else ())]
    outliers = _outliers(fitted)
    chosen = _chosen(read, seen, [label in outliers for label in read.labels]) if read else []
    runs = [
        _run(read, i, names[i], "" if seen[i] else reasons.get(read.labels[i], "not in the fit"))
        for i in chosen
        if read
    ]
    predicted = {names[i]: _predicted(fitted, read, i) for i in chosen if read}
    top = reach or FAR * fitted.max_compute_flop
    return Content(
        title=title,
        runs=runs,
        law=law(
            fitted,
            name=fitted.source or fitted.form,
            fitted_runs=[names[i] for i in chosen if seen[i]],
            predicted_nats=predicted,
            outliers=[names[i] for i in chosen if read and read.labels[i] in outliers],
            second=second,
            top=max(top, fitted.max_compute_flop),
        ),
        profiles=profiles(second),
        warnings=[*fitted.warnings, *(second.warnings if second else [])],
        stamp=fitted.stamp,
    )


def law(
    fitted: Fit,
    *,
    name: str,
    fitted_runs: list[str],
    predicted_nats: dict[str, float],
    outliers: Sequence[str] = (),
    second: Approach2 | None = None,
    top: float,
) -> Law:
    """A fit as the figures and tables show it, followed from its cheapest run to a compute of `top`."""
    intervals = fitted.intervals()
    exponents, token_exponents = {"L(N, D)": intervals["a"]}, {"L(N, D)": intervals["b"]}
    if second and second.exponents:
        exponents["isoFLOP parabolas"] = second.exponents["a"]
        token_exponents["isoFLOP parabolas"] = second.exponents["b"]
    return Law(
        name=name,
        formula=formula(fitted.form),
        coefficients={letter: intervals[letter] for letter in fitted.law.coefficients},
        fitted=fitted_runs,
        exponents=exponents,
        token_exponents=token_exponents,
        tokens_per_parameter=fitted.optimum(compute_flop=fitted.max_compute_flop).tokens_per_param,
        compute_flop=fitted.max_compute_flop,
        counts=fitted.counts,
        source=_source(fitted),
        predicted_nats=predicted_nats,
        outliers=list(outliers),
        max_compute_flop=fitted.max_compute_flop,
        frontier=list(_frontier(fitted, top)),
        contours=contours(
            lambda n, d: fitted.law.loss(n_params=n, n_tokens=d),
            n_params=_widened(fitted.domain.n_params),
            n_tokens=_widened(fitted.domain.n_tokens),
        ),
        backtests=[
            Backtest(
                max_compute_flop=origin.max_flop,
                n_runs=origin.n_fit,
                n_ahead=origin.n_ahead,
                median_error=origin.median_error,
                bias=origin.bias,
            )
            for origin in fitted.backtest
        ],
    )


def profiles(second: Approach2 | None) -> list[Profile]:
    """The isoFLOP profiles of approach 2."""
    return [
        Profile(
            compute_flop=profile.compute_flop,
            points=[
                ProfilePoint(run_id=label, n_params=n, loss_nats=loss)
                for label, n, loss in zip(profile.labels, profile.n_params, profile.loss_nats, strict=True)
            ],
            parabola=profile.parabola,
            minimum=profile.best_n_params,
            minimum_nats=profile.best_loss_nats.value if profile.best_loss_nats else None,
            flag=profile.flag,
        )
        for profile in (second.profiles if second else [])
    ]


def _widened(bounds: tuple[float, float]) -> tuple[float, float]:
    """A little more than the runs covered, so that none lies on the edge."""
    return bounds[0] / 1.3, bounds[1] * 1.3


def _source(fitted: Fit) -> str:
    """How the law came about, and who else has a say in its forecasts."""
    if not fitted.certificate:
        return fitted.source
    voices = [rival for rival in fitted.rivals if rival.weight]
    of = ["" if rival.horizon is None else " of the dearest runs above all" for rival in voices]
    shares = ", ".join(f"the {rival.form} law{of[i]} for {rival.weight:.0%}" for i, rival in enumerate(voices))
    return f"fitted to {fitted.n_runs} runs" + (f"; in forecasts it answers together with {shares}" if shares else "")


def _frontier(fitted: Fit, top: float) -> Iterator[FrontierPoint]:
    """The best use of budgets from the cheapest run to `top`, the dearest run's among them."""
    lo, largest = fitted.domain.compute_flop
    budgets = {*np.geomspace(lo, top, FRONTIER_POINTS).tolist(), largest}
    for compute in sorted(budgets):
        best = fitted.optimum(compute_flop=compute)
        yield FrontierPoint(
            compute_flop=compute, loss_nats=best.loss_nats, n_params=best.n_params, n_tokens=best.n_tokens
        )


def _unique(labels: Sequence[str]) -> list[str]:
    """Labels told apart where two runs carry the same."""
    seen: Counter[str] = Counter()
    found = []
    for label in labels:
        seen[label] += 1
        found.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return found


def _outliers(fitted: Fit) -> set[str]:
    """Labels of the runs further from the law than noise explains, as the fit's own warning counts them."""
    residuals = np.array(list(fitted.residuals.values()))
    if not residuals.size:
        return set()
    usual = within_noise(residuals, residual_sd(residuals, n_coefficients=len(fitted.law.coefficients)))
    return {label for label, kept in zip(fitted.residuals, usual, strict=True) if not kept}


def _chosen(read: RunTable, seen: Sequence[bool], far: Sequence[bool]) -> list[int]:
    """Which runs are drawn: all of few; of many an even choice by compute, outliers and left-out ones among them."""
    order: list[int] = np.lexsort((read.n_params, read.compute_flop)).tolist()
    if len(order) <= DRAWN:
        return order
    rare = _even([i for i in order if far[i]], DRAWN // 8) + _even([i for i in order if not seen[i]], DRAWN // 4)
    usual = [i for i in order if seen[i] and not far[i]]
    kept = {*rare, *_even(usual, DRAWN - len(set(rare)))}
    return [i for i in order if i in kept]


def _even(values: Sequence[int], most: int) -> list[int]:
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[place] for place in places]


def _run(read: RunTable, i: int, name: str, reason: str) -> Run:
    return Run(
        id=name,
        n_params=float(read.n_params[i]),
        n_tokens=float(read.n_tokens[i]),
        compute_flop=float(read.compute_flop[i]),
        loss_nats=float(read.loss_nats[i]),
        counts=read.counts,
        note=reason,
    )


def _predicted(fitted: Fit, read: RunTable, i: int) -> float:
    """The law's loss of a run: by its residual where it was fitted, so that all it reads is taken into account."""
    residual = fitted.residuals.get(read.labels[i])
    if residual is not None:
        return float(read.loss_nats[i] * np.exp(residual))
    return float(fitted.law.loss(n_params=float(read.n_params[i]), n_tokens=float(read.n_tokens[i])))
