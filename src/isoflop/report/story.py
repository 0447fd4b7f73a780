"""From a climbed ladder to the page's content: the joint between `train.ladder` and the figures."""

from pathlib import Path

from isoflop.report import law_story
from isoflop.report.content import Content, Forecast, Law, Measurement, Plan, Sheet, Stage
from isoflop.stamp import Stamp
from isoflop.train import store
from isoflop.train.ladder import Climb


def content(
    climb: Climb,
    *,
    folder: Path,
    title: str,
    text_source: str,
    tokenizer: str,
    plan_question: str = "",
    plans: list[Plan] | None = None,
    stages: list[Stage] | None = None,
    sheets: list[Sheet] | None = None,
    warnings: list[str] | None = None,
    stamp: Stamp | None = None,
) -> Content:
    """The page of a ladder climbed in `folder`."""
    said = climb.forecast
    return Content(
        title=title,
        text_source=text_source,
        tokenizer=tokenizer,
        runs=climb.runs,
        curves={run.id: _curve(folder / run.id) for run in climb.runs},
        law=_law(climb),
        profiles=law_story.profiles(climb.approach_2),
        forecasts=[
            Forecast(
                run_id=said.run_id or next((run.id for run in climb.runs if run.role == "held_out"), "proof"),
                compute_flop=said.compute_flop,
                n_params=said.n_params,
                n_tokens=said.n_tokens,
                forecast_nats=said.loss_nats,
                made_at=said.written,
                measured_nats=said.measured_nats,
                measured_at=said.measured,
            )
        ],
        plan_question=plan_question,
        plans=plans or [],
        stages=stages or [],
        sheets=sheets or [],
        warnings=[*climb.law.warnings, *(climb.approach_2.warnings if climb.approach_2 else []), *(warnings or [])],
        stamp=stamp,
    )


def _curve(folder: Path) -> list[Measurement]:
    return [
        Measurement(
            n_tokens=point.n_tokens,
            kind="train" if point.validation_loss_nats is None else "validation",
            loss_nats=point.loss_nats if point.validation_loss_nats is None else point.validation_loss_nats,
            step=point.step,
        )
        for point in store.metrics(folder)
        if point.n_tokens is not None
    ]


def _law(climb: Climb) -> Law:
    return law_story.law(
        climb.law,
        name="this ladder",
        fitted_runs=[run.id for run in climb.runs if run.id in climb.law.residuals],
        predicted_nats={
            run.id: climb.law.law.loss(n_params=run.n_params, n_tokens=run.n_tokens)
            for run in climb.runs
            if run.n_tokens
        },
        second=climb.approach_2,
        top=2 * climb.forecast.compute_flop,
    )
