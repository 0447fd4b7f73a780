"""How advice on a mixture is shown, and how it is given from tables of runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.cli.shell import Output, Printer, Recorder
from isoflop.laws import mixture_table
from isoflop.laws.law import Array
from isoflop.laws.mixture import MixtureLaw
from isoflop.laws.mixture_advice import Advice, advise, target_weights
from isoflop.laws.mixture_table import MixtureTable
from isoflop.laws.mixture_trust import new_runs, rank_correlation

if TYPE_CHECKING:
    from isoflop.report.law_page import Page


def advice_payload(advice: Advice, *, table: MixtureTable) -> dict[str, Any]:
    """The choice and its law."""
    return {
        "target": advice.target,
        "proportions": {
            name: {
                "share": each.share.value,
                "lo": each.share.lo,
                "hi": each.share.hi,
                "flat_lo": each.flat_lo,
                "flat_hi": each.flat_hi,
                "tried_lo": each.tried_lo,
                "tried_hi": each.tried_hi,
            }
            for name, each in advice.domains.items()
        },
        **advice.loss_nats.flat("loss_nats"),
        "level": advice.loss_nats.level,
        "losses": advice.losses,
        "law": {
            "form": "Gaussian process of log loss on log(1 + p / eps)",
            "n_runs": advice.n_runs,
            "left_out_error": advice.left_out_error,
            "left_out_rank": advice.left_out_rank,
            "scatter": advice.scatter,
            "noise_sd": advice.noise.sd,
            "noise_freedom": advice.noise.freedom,
            "gain_over_runs": advice.gain_over_runs,
            "table_sha256": table.sha256,
        },
        "dropped": list(table.dropped),
        "warnings": advice.warnings,
    }


def show_advice(printer: Printer, advice: Advice) -> None:
    """Print the choice."""
    rows = [
        [
            name,
            f"{each.share.value:.4f}",
            f"{each.share.lo:.3f} to {each.share.hi:.3f}",
            f"{each.flat_lo:.3f} to {each.flat_hi:.3f}",
            f"{each.tried_lo:.3f} to {each.tried_hi:.3f}",
        ]
        for name, each in advice.domains.items()
    ]
    printer.table(
        f"the mixture to take, from {advice.n_runs} runs", ["domain", "share", "90 %", "as good", "tried"], rows
    )
    said = advice.loss_nats
    between = f"{said.lo:.4f} to {said.hi:.4f} ({said.level:.0%})"
    printer.line(f"loss that counts: {said.value:.4f} nats, one new run {between}", style="bold")
    rank = "" if advice.left_out_rank is None else f", rank correlation {advice.left_out_rank:.3f}"
    origin = (
        f"{advice.noise.freedom} degrees of freedom" if advice.noise.freedom else "by the law, nothing was repeated"
    )
    printer.line(
        f"law: each run told from the others is missed by {advice.left_out_error:.2%} of its loss{rank}; runs scatter "
        f"by {advice.scatter:.2%}, the noise of one is {advice.noise.sd:.2%} ({origin})"
    )
    for warning in advice.warnings:
        printer.warn(warning)


def from_tables(
    runs: Sequence[Path], test: Sequence[Path], target: Sequence[str], *, output: Output, page_file: Path | None,
    seed: int,
) -> None:  # fmt: skip
    """Advise from published runs and judge the law by others.

    Raises:
        InputError: not such tables, or the others are of other domains or losses.
    """
    table = mixture_table.read(runs)
    others = mixture_table.matching(mixture_table.read(test), table) if test else None
    law, advice = advise(table, target_weights(target, table.targets), seed=42 + seed)
    payload = {"source": table.source, "n_runs": len(table.labels), **advice_payload(advice, table=table)}
    if others is not None:
        payload["test"] = _judged(law, advice, others)

    def render(printer: Printer) -> None:
        show_advice(printer, advice)
        if others is not None:
            _show_judged(printer, payload["test"])

    output.show(payload, render)
    if page_file is not None:
        from isoflop.report import mix_story

        write_page(page_file, mix_story.page(law, advice, inputs={"table": table.sha256}), render, output)


def _judged(law: MixtureLaw, advice: Advice, others: MixtureTable) -> dict[str, Any]:
    """Forecasts of runs that the law has not seen beside what they measured."""
    predicted = law.predict(others.shares_RD)
    ranks = {name: rank_correlation(predicted[:, i], others.losses_RT[:, i]) for i, name in enumerate(others.targets)}
    weights = np.array([advice.target.get(name, 0.0) for name in others.targets])
    measured: Array = others.losses_RT @ weights
    said = new_runs(law, advice.target, others.shares_RD)
    inside = [each.lo <= loss <= each.hi for each, loss in zip(said, measured, strict=True)]
    return {
        "source": others.source,
        "n_runs": len(others.labels),
        "spearman": ranks,
        "spearman_mean": float(np.mean(list(ranks.values()))),
        "spearman_target": rank_correlation(np.array([each.value for each in said]), measured),
        "inside": float(np.mean(inside)),
        "level": said[0].level,
    }


def _show_judged(printer: Printer, judged: dict[str, Any]) -> None:
    printer.table(
        f"{judged['n_runs']} runs that the law has not seen",
        ["loss", "Spearman"],
        [[name, f"{rank:.3f}"] for name, rank in judged["spearman"].items()],
    )
    printer.line(
        f"mean over losses {judged['spearman_mean']:.3f}; of the loss that counts {judged['spearman_target']:.3f}; "
        f"{judged['inside']:.0%} inside their {judged['level']:.0%} intervals"
    )


def write_page(path: Path, page: "Page", render: Callable[[Printer], None], output: Output) -> None:
    """The page, with what is printed below its charts."""
    from isoflop.report import law_page

    recorder = Recorder()
    render(recorder)
    law_page.write(path, command="isoflop data mix", page=page, said=recorder.blocks)
    output.progress(f"the page: {path} ({path.stat().st_size / 1e6:.1f} MB)")
