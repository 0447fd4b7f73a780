"""How a climbed ladder and its plans are shown: as JSON and as tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from isoflop import units
from isoflop.cli import law_view
from isoflop.cli.progress import LadderProgress
from isoflop.cli.shell import Output, Printer
from isoflop.loop import Listener
from isoflop.plan import payload as plan_payload
from isoflop.plan import table as plan_table
from isoflop.report.content import Stage
from isoflop.specs.plan import Plan
from isoflop.specs.run import Run
from isoflop.train.ladder import Climb, Forecast
from isoflop.train.ladder_trunks import Ascent


def listener(output: Output) -> Listener:
    """Lines and bars on stderr."""
    return Listener(say=output.progress, progress=lambda title: LadderProgress(title=title))


def climb_payload(climb: Climb, stages: Sequence[Stage]) -> dict[str, Any]:
    """The JSON of a climbed ladder."""
    second = climb.approach_2 or "no isoFLOP curve has three sizes"
    return {
        "law": law_view.fit_payload(climb.law, second),
        "forecast": forecast_payload(climb.forecast),
        "runs": [to_builtins(run) for run in climb.runs],
        "compute_flop": sum(run.flop for run in climb.runs if run.status == "finished"),
        "cores": to_builtins(climb.setup.choice),
        "peak_flop_per_s": climb.setup.peak_flop_per_s,
        "stages": {stage.name: stage.wall_s for stage in stages},
        "warnings": law_view.warnings(climb.law, second),
    }


def ascent_payload(found: Ascent, stages: Sequence[Stage]) -> dict[str, Any]:
    """The JSON of a climbed ladder of trunks."""
    rates, noise = found.rates, found.noise
    return climb_payload(found.climb, stages) | {
        "design": found.layout.plan.design,
        "compute_flop": found.compute_flop,
        "points_flop": found.points_flop,
        "separate_flop": found.separate_flop,
        "saved_fraction": found.saved_fraction,
        "learning_rate": None if rates is None else to_builtins(rates),
        "noise": None if noise is None else to_builtins(noise),
        "misfit_sd": found.misfit_sd,
        "flagged": found.flagged,
    }


def show_ascent(printer: Printer, found: Ascent, stages: Sequence[Stage], *, page: Path) -> None:
    """Print a climbed ladder of trunks."""
    show_climb(printer, found.climb, stages)
    rates = found.rates
    if rates is not None:
        a = rates.at(found.layout.proof.n_params)
        printer.line(
            f"learning rate: log rate = {rates.a:.3g} {rates.b:+.3g} log N, {a.value:.2g} ({a.lo:.2g} to {a.hi:.2g}) "
            "at the kept-out size"
        )
        for warning in rates.warnings:
            printer.warn(warning)
    if found.noise is not None:
        printer.line(
            f"noise between seeds: {found.noise.sd:.2%} of the loss ({found.noise.freedom} degrees of freedom); the "
            f"law misses its points by {found.misfit_sd:.2%} beyond it"
        )
    for flagged in found.flagged:
        printer.warn(flagged)
    printer.line(
        f"{units.show(found.compute_flop, 'FLOP')} in all; points {units.show(found.points_flop, 'FLOP')} against "
        f"{units.show(found.separate_flop, 'FLOP')} as runs of their own: {found.saved_fraction:.0%} saved"
    )
    printer.line(f"the page: {page}", style="bold")


def forecast_payload(said: Forecast) -> dict[str, Any]:
    """Forecast and measurement side by side."""
    return {
        **said.loss_nats.flat("loss_nats"),
        "level": said.loss_nats.level,
        "measured": said.measured_nats,
        "held": said.held,
        "compute_flop": said.compute_flop,
        "n_params": said.n_params,
        "n_tokens": said.n_tokens,
        "written": said.written,
        "blind": said.blind,
    }


def show_climb(printer: Printer, climb: Climb, stages: Sequence[Stage]) -> None:
    """Print runs, law, proof and times."""
    _show_runs(printer, climb.runs)
    law_view.show_fit(printer, climb.law, climb.approach_2 or "no isoFLOP curve has three sizes")
    _show_proof(printer, climb)
    total = sum(stage.wall_s for stage in stages)
    times = ", ".join(f"{stage.name} {units.show(stage.wall_s, 's', digits=2)}" for stage in stages)
    printer.line(f"{units.show(total, 's')}: {times}")


def _show_runs(printer: Printer, runs: Sequence[Run]) -> None:
    rows = [
        [
            run.id,
            units.show(run.n_params, "parameters"),
            units.show(run.n_tokens, "tokens"),
            units.show(run.flop, "FLOP"),
            "" if run.loss_nats is None else f"{run.loss_nats:.4f}",
            "" if run.bits_per_byte is None else f"{run.bits_per_byte:.4f}",
            "" if run.tokens_per_s is None else units.show(run.tokens_per_s, "tokens"),
            "" if run.mfu is None else f"{run.mfu:.0%}",
            run.status if run.role == "fit" else f"kept out, {run.status}",
        ]
        for run in runs
    ]
    printer.table("", ["run", "N", "D", "6ND", "loss", "bits/byte", "tok/s", "MFU", "status"], rows)


def _show_proof(printer: Printer, climb: Climb) -> None:
    said = climb.forecast
    proof = next((run for run in climb.runs if run.role == "held_out"), None)
    ratio, loss = said.compute_flop / climb.law.max_compute_flop, said.loss_nats
    printer.line(
        f"proof: {units.show(said.compute_flop, 'FLOP')}, {ratio:.3g} times the dearest run fitted", style="bold"
    )
    printer.line(f"  forecast  {loss.value:.4f} nats a token, 90 % interval {loss.lo:.4f} to {loss.hi:.4f}")
    if said.measured_nats is None:
        note = f"{proof.status} {proof.note}" if proof else "not trained"
        printer.warn(f"the proof was not measured: {note}")
        return
    error = said.loss_nats.value / said.measured_nats - 1
    where = "inside" if said.held else "OUTSIDE"
    printer.line(
        f"  measured  {said.measured_nats:.4f} nats a token: {where} the interval, forecast off by {error:+.2%}"
    )


def plans_payload(answers: Mapping[str, Plan]) -> dict[str, Any]:
    """The plans by law."""
    return {name: plan_payload.payload(plan) for name, plan in answers.items()}


def show_plans(printer: Printer, question: str, answers: Mapping[str, Plan]) -> None:
    """Print what each law says the budget should train, side by side."""
    columns = [plan_table.rows(plan) for plan in answers.values()]
    rows = [[same[0][0], *(row[1] for row in same)] for same in zip(*columns, strict=True)]
    printer.table(f"{question}, compute-optimal", ["by the law", *answers], rows)
    for name, plan in answers.items():
        for warning in dict.fromkeys([*plan.warnings, *plan.options[0].warnings]):
            printer.warn(f"{name}: {warning}")
