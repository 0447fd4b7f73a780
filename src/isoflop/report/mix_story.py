"""The page of a choice of mixture: the choice and how flat it is, the law by domain, the check."""

from collections.abc import Mapping, Sequence

import numpy as np

from isoflop import stamp, units
from isoflop.laws.mixture import MixtureLaw
from isoflop.laws.mixture_advice import Advice
from isoflop.plan.mixtures import epochs_read
from isoflop.report import words
from isoflop.report.document import Drawing, fact
from isoflop.report.figures import mixture
from isoflop.report.law_page import Page, Part
from isoflop.report.markup import Cell, table
from isoflop.train.mix import Mix, Said

MOST_DRAWN = 12  # domains that get a chart of their own, those of the widest share first


def of_mix(found: Mix) -> Page:
    """Of runs that were trained here."""
    natural = dict(zip(found.plan.domains, map(float, found.plan.natural), strict=True))
    checks = found.forecast.checks
    return page(
        found.law,
        found.advice,
        natural=natural,
        checks=checks,
        said=verdicts(found),
        inputs={"table": found.table.sha256},
    )


def page(
    law: MixtureLaw,
    advice: Advice,
    *,
    natural: Mapping[str, float] | None = None,
    checks: Sequence[Said] = (),
    said: Sequence[str] = (),
    inputs: Mapping[str, str],
) -> Page:
    """Of a fitted law, with what its check has brought."""
    parts = [_choice(advice, natural)]
    if checks:
        parts.append(_check(checks, said))
    parts.append(_law(law, advice))
    return Page(
        title=f"A mixture of {len(law.domains)} domains, chosen from {advice.n_runs} runs",
        lead=lead(advice, said),
        answers=_answers(advice, checks),
        parts=parts,
        note="The loss that counts: "
        + ", ".join(f"{weight:.3g} x {name}" for name, weight in list(advice.target.items())[:MOST_DRAWN]),
        stamp=stamp.make(inputs),
    )


def lead(advice: Advice, said: Sequence[str]) -> str:
    """The answer in a sentence or two."""
    largest = sorted(advice.domains.items(), key=lambda pair: -pair[1].share.value)[:5]
    shares = ", ".join(f"{name} {each.share.value:.1%}" for name, each in largest)
    return f"Take {shares}{' and less of the others' if len(advice.domains) > 5 else ''}. {' '.join(said)}".strip()


def verdicts(found: Mix) -> list[str]:
    """What the check says of the choice, beside each other mixture, the worst news first."""
    chosen = found.chosen
    if chosen.measured_nats is None:
        return ["The chosen mixture was not measured: its run did not finish."]
    groups: dict[str, list[str]] = {"worse": [], "as good": [], "better": []}
    for other in found.forecast.checks[1:]:
        if (verdict := found.verdict(other)) is not None and other.measured_nats is not None:
            ahead = words.signed(other.measured_nats - chosen.measured_nats, ".4f")
            same = "the same mixture" if other.runs == chosen.runs else f"{ahead} nats"
            groups[verdict].append(f"{other.mixture} ({same})")
    sentences = {
        "worse": "Measured, the choice is WORSE than {}: take that one, or train more proxies.",
        "as good": "Within the noise, {noise:.4f} nats, it is as good as {}.",
        "better": "It is better than {}.",
    }
    noise = max(found.clear_nats(other) for other in found.forecast.checks[1:])
    return [text.format(", ".join(groups[key]), noise=noise) for key, text in sentences.items() if groups[key]]


def _answers(advice: Advice, checks: Sequence[Said]) -> list[str]:
    said, got = advice.loss_nats, checks[0].measured_nats if checks else None
    tone = "open" if got is None else "good" if checks[0].held else "bad"
    value = f"{said.value:.4f}" + (f" → {got:.4f}" if got is not None else "")
    inside = "" if got is None else f", {'inside' if checks[0].held else 'outside'}"
    return [
        fact("Loss of the choice, nats", value, f"{said.level:.0%}: {said.lo:.4f} to {said.hi:.4f}{inside}", tone),
        fact("Runs told from the others", f"{advice.left_out_error:.2%}",
             f"of their loss, where they scatter by {advice.scatter:.2%}"),
        fact("Noise of one run", f"{advice.noise.sd:.2%}",
             f"{advice.noise.freedom} degrees of freedom" if advice.noise.freedom else "the law's own estimate"),
    ]  # fmt: skip


def _choice(advice: Advice, natural: Mapping[str, float] | None) -> Part:
    return Part(
        name="choice",
        title="The choice",
        charts=[
            Drawing(
                name="proportions",
                title="How much of each domain, and how much it matters",
                said=lead(advice, ()),
                chart=mixture.proportions(advice, natural),
                caption="Wide bars hold what would do as well: somewhere along each, with the others put right, the "
                "predicted loss is above the best by no more than the noise of one run. Thin lines are what resampled "
                "runs choose.",
                key=(("minimum", "the choice"), *((("left_out", "by size"),) if natural else ())),
            )
        ],
        tables=table("Shares", ["domain", "share", "90% interval", "as good", "tried"], _rows(advice)),
    )


def _rows(advice: Advice) -> list[list[Cell]]:
    return [
        [
            Cell(text=name),
            Cell(text=f"{each.share.value:.4f}", order=each.share.value),
            Cell(text=f"{each.share.lo:.3f} to {each.share.hi:.3f}"),
            Cell(text=f"{each.flat_lo:.3f} to {each.flat_hi:.3f}"),
            Cell(text=f"{each.tried_lo:.3f} to {each.tried_hi:.3f}"),
        ]
        for name, each in advice.domains.items()
    ]


def _check(checks: Sequence[Said], said: Sequence[str]) -> Part:
    return Part(
        name="check",
        title="The check",
        text=" ".join(said),
        charts=[
            Drawing(
                name="comparison",
                title="Forecast and measured, at equal compute",
                said=" ".join(said),
                chart=mixture.comparison(checks),
                caption="Bars are 90% intervals of one run, written before any run of the check; diamonds what was "
                "measured.",
                key=(("forecast", "forecast interval"), ("measured", "measured")),
            )
        ],
    )


def _law(law: MixtureLaw, advice: Advice) -> Part:
    width = {name: each.tried_hi - each.tried_lo for name, each in advice.domains.items()}
    drawn = sorted(
        law.domains, key=lambda name: (-max(advice.target.get(name, 0), advice.domains[name].share.value), -width[name])
    )
    shown = [name for name in law.domains if name in drawn[:MOST_DRAWN]]
    left = len(law.domains) - len(shown)
    return Part(
        name="law",
        title="Loss over proportions",
        text="Every dot is a run. The line is the law along one share with the others as in the choice, the band its "
        "90% interval for one new run." + (f" {left} more domains are not drawn." if left else ""),
        charts=[
            [
                Drawing(
                    name=f"share-{place}",
                    title=name,
                    said=f"Loss that counts against the share of {name}.",
                    chart=mixture.loss_over_share(law, advice, name),
                )
                for place, name in enumerate(shown)
            ]
        ],
    )  # fmt: skip


def cautions(found: Mix) -> list[str]:
    """What there is to be careful about beside what the advice says itself."""
    plan = found.plan
    said: list[str] = []
    if not found.forecast.blind:
        said.append("the forecast was written when runs of the check had ended already")
    lost = [run.id for run in found.runs if run.status != "finished"]
    if lost:
        said.append(f"{len(lost)} runs did not finish: {', '.join(lost[:3])}")
    for each in found.forecast.checks:
        read = epochs_read(np.array(list(each.shares.values())), plan.tokens, n_tokens=plan.for_tokens)
        if (most := float(read.max())) > plan.epochs * 1.01:
            name = plan.domains[int(read.argmax())]
            said.append(
                f"{each.mixture} reads {name} {most:.1f} times in {units.show(plan.for_tokens, 'tokens')} tokens"
            )
    if plan.for_tokens > plan.run_tokens:
        said.append(
            f"proxies read {units.show(plan.run_tokens, 'tokens')} tokens, so they do not feel what repeats cost in a "
            f"run of {units.show(plan.for_tokens, 'tokens')}; there shares are capped at {plan.epochs:g} epochs"
        )
    n, d = units.show(plan.n_params, "parameters"), units.show(plan.run_tokens, "tokens")
    return [
        *said,
        f"all of this is true of models of {n} parameters and {d} tokens; that mixtures keep their order in larger "
        "ones is not proved here",
    ]
