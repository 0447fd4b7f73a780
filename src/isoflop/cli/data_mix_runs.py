"""How runs of mixtures are shown, those to come and those that were trained: as JSON, as tables, as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop import units
from isoflop.cli.data_mix_view import advice_payload, show_advice, write_page
from isoflop.cli.shell import Output, Printer
from isoflop.laws.law import Array
from isoflop.laws.source import load
from isoflop.plan.mixtures import epochs_read, worth

if TYPE_CHECKING:
    from isoflop.mix_loop import Layout
    from isoflop.plan.mixture_plan import MixturePlan
    from isoflop.report.content import Stage
    from isoflop.train.mix import Mix

REPEATS = "muennighoff-2023"
"""The published law whose R_D says what a token is worth that was read before."""


def plan_payload(plan: "MixturePlan") -> dict[str, Any]:
    """What is trained, what it costs, what is allowed."""
    return {
        "domains": {
            name: {"n_tokens": size, "natural": float(natural), "least": least, "most": most}
            for (name, size), natural, least, most in zip(
                plan.sizes.items(), plan.natural, plan.least, plan.most, strict=True
            )
        },
        "n_params": plan.n_params,
        "run_tokens": plan.run_tokens,
        "run_flop": plan.run_flop,
        "compute_flop": plan.compute_flop,
        "steps": plan.proxy.steps,
        "batch_tokens": plan.proxy.batch_tokens,
        "learning_rate": plan.proxy.optimizer.learning_rate,
        "for_tokens": plan.for_tokens,
        "epochs_allowed": plan.epochs,
    }


def dry(layout: "Layout", folder: Path, *, output: Output) -> None:
    """What would be trained."""
    plan = layout.plan
    wall_s, why_not = _wall_s(plan, folder)
    payload = {
        **plan_payload(plan),
        "target": layout.target,
        "sizes_estimated": layout.estimated,
        "wall_s": wall_s,
        "wall_s_unknown": why_not,
        "runs": [
            {"name": trial.name, "kind": trial.kind, "seed": trial.seed, "shares": _named(plan, trial.shares)}
            for trial in plan.trials
        ],
        "checks": {rule.name: {"shares": _named(plan, rule.shares), "source": rule.source} for rule in plan.rules},
    }
    output.show(payload, lambda printer: _show_dry(printer, layout, wall_s, why_not))


def _named(plan: "MixturePlan", shares: Sequence[float] | Array) -> dict[str, float]:
    return dict(zip(plan.domains, map(float, shares), strict=True))


def _wall_s(plan: "MixturePlan", folder: Path) -> tuple[float | None, str]:
    """Seconds at the speed that a proxy had here, or why nothing can be said."""
    from isoflop.files import read_json
    from isoflop.mix_loop import MIX
    from isoflop.train.ladder import MACHINE, Setup

    path = folder / MIX / MACHINE
    if not path.exists():
        return None, "this machine is measured when the runs begin"
    choice = read_json(path, Setup).choice
    rate = choice.apart_tokens_per_s if choice.workers > 1 else choice.together_tokens_per_s
    if rate is None:
        return None, "its speed was not tried when the runs began"
    return plan.compute_flop / (6 * plan.n_params) / rate, ""


def _show_dry(printer: Printer, layout: "Layout", wall_s: float | None, why_not: str) -> None:
    plan = layout.plan
    _show_domains(printer, plan, estimated=layout.estimated)
    rows = [[trial.name, *(f"{share:.4f}" for share in trial.shares)] for trial in plan.trials]
    rows += [[f"check-{rule.name}", *(f"{share:.4f}" for share in rule.shares)] for rule in plan.rules]
    printer.table("runs, and what the choice is held against", ["run", *plan.domains], rows)
    printer.line(_cost(plan))
    printer.line(f"about {units.show(wall_s, 's')}" if wall_s is not None else f"time unknown: {why_not}")


def _cost(plan: "MixturePlan") -> str:
    checks = len(plan.rules) + 1
    return (
        f"{len(plan.trials)} proxies and {checks * len(plan.seeds)} runs of the check, each of "
        f"{units.show(plan.n_params, 'parameters')} parameters and {units.show(plan.run_tokens, 'tokens')} tokens "
        f"({plan.proxy.steps} steps): {units.show(plan.compute_flop, 'FLOP')}"
    )


def _show_domains(printer: Printer, plan: "MixturePlan", *, estimated: bool = False) -> None:
    rows = [
        [name, units.show(size, "tokens"), f"{natural:.4f}", f"{least:.4f}", f"{most:.4f}"]
        for (name, size), natural, least, most in zip(
            plan.sizes.items(), plan.natural, plan.least, plan.most, strict=True
        )
    ]
    printer.table(
        f"domains; no more than {plan.epochs:g} epochs in {units.show(plan.for_tokens, 'tokens')} tokens",
        ["domain", "tokens, estimated from bytes" if estimated else "tokens", "natural", "least", "most"],
        rows,
    )


def payload_of(found: "Mix", stages: "Sequence[Stage]", *, cautions: Sequence[str]) -> dict[str, Any]:
    """Everything."""
    plan, advice = found.plan, found.advice
    trials = [*plan.trials, *(None for _ in found.runs[len(plan.trials) :])]
    runs = [
        {
            "id": run.id,
            "kind": "check" if trial is None else trial.kind,
            "status": run.status,
            "seed": run.seed,
            "shares": None if trial is None else _named(plan, trial.shares),
            "losses": {name: source.loss_nats for name, source in (run.sources or {}).items()},
            "compute_flop": run.flop,
            "wall_s": run.wall_s,
        }
        for trial, run in zip(trials, found.runs, strict=True)
    ]
    by_mixture = {run_id: each.shares for each in found.forecast.checks for run_id in each.runs}
    for row in runs:
        row["shares"] = row["shares"] or by_mixture.get(str(row["id"]))
    said = found.forecast
    return {
        **plan_payload(plan),
        **advice_payload(advice, table=found.table),
        "runs": runs,
        "compute_flop": sum(run.flop for run in found.runs),
        "forecast": {
            "written": said.written,
            "blind": said.blind,
            "law_sha256": said.law_sha256,
            **advice.loss_nats.flat("loss_nats"),
            "level": advice.loss_nats.level,
            "measured": found.chosen.measured_nats,
            "held": found.chosen.held,
        },
        "checks": [_check(found, each) for each in said.checks],
        "stages": {stage.name: stage.wall_s for stage in stages},
        "warnings": [*advice.warnings, *cautions],
    }


def _check(found: "Mix", each: Any) -> dict[str, Any]:
    shares = np.array(list(each.shares.values()))
    read = epochs_read(shares, found.plan.tokens, n_tokens=found.plan.for_tokens)
    return {
        "mixture": each.mixture,
        "source": each.source,
        "shares": each.shares,
        **each.loss_nats.flat("forecast_nats"),
        "measured_nats": each.measured_nats,
        "by_run": each.by_run,
        "held": each.held,
        "losses": each.losses,
        "runs": each.runs,
        "chosen_is": None if each is found.chosen else found.verdict(each),
        "clear_nats": None if each is found.chosen else found.clear_nats(each),
        "epochs": _named(found.plan, read),
        "repeated_token_worth": _named(found.plan, worth(read, decay=_decay())),
    }


def _decay() -> float:
    return load(REPEATS).law.coefficients["R_D"]


def show(found: "Mix", folder: Path, stages: "Sequence[Stage]", *, output: Output, page_file: Path | None) -> None:
    """Print everything, and write the page."""
    from isoflop.mix_loop import MIX
    from isoflop.report import mix_story
    from isoflop.train.mix import MIXTURE, TABLE

    page, place = page_file or folder / "report.html", folder / MIX
    verdicts = mix_story.verdicts(found)

    def render(printer: Printer) -> None:
        _show_domains(printer, found.plan)
        show_advice(printer, found.advice)
        _show_checks(printer, found)
        for sentence in verdicts:
            printer.line(sentence, style="bold")
        for warning in mix_story.cautions(found):
            printer.warn(warning)
        printer.line(_cost(found.plan))
        printer.line(", ".join(f"{stage.name} {units.show(stage.wall_s, 's', digits=2)}" for stage in stages))

    write_page(page, mix_story.of_mix(found), render, output)
    payload = payload_of(found, stages, cautions=mix_story.cautions(found)) | {
        "verdicts": verdicts,
        "recipe": str(place / MIXTURE),
        "table": str(place / TABLE),
        "report": str(page),
    }

    def print_all(printer: Printer) -> None:
        render(printer)
        printer.line(f"for a recipe: {place / MIXTURE}; runs: {place / TABLE}; the page: {page}", style="bold")

    output.show(payload, print_all)


def _show_checks(printer: Printer, found: "Mix") -> None:
    rows = [
        [
            each.mixture,
            *(f"{share:.3f}" for share in each.shares.values()),
            f"{each.loss_nats.value:.4f} ({each.loss_nats.lo:.4f} to {each.loss_nats.hi:.4f})",
            "" if each.measured_nats is None else f"{each.measured_nats:.4f}",
            {None: "", True: "inside", False: "OUTSIDE"}[each.held],
            "" if each is found.chosen else f"choice is {found.verdict(each) or 'unknown'}",
        ]
        for each in found.forecast.checks
    ]
    when = "before" if found.forecast.blind else "AFTER"
    printer.table(
        f"the check, at equal compute; forecast written {when} its first run",
        ["mixture", *found.plan.domains, "forecast", "measured", "", ""],
        rows,
    )
