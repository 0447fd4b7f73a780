"""The same points of a ladder from cooldown branches and from cosine runs of their own: two laws side by side.

    python benchmarks/ladder_branches.py --text TEXT --budget 1e14 --out runs/branches

Rates are swept once, by the branched ladder; sizes, lengths, seeds, data order and rates are then equal. Printed and
written to OUT/result.json: the compute of both, the loss of each pair, coefficients with intervals, the forecasts at
ten times the dearest point and at the kept-out run, and the same kept-out run forecast from a designed half of the
branches. Stopped anywhere, the same command goes on.
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from isoflop import loop
from isoflop.errors import IsoflopError
from isoflop.files import write_json
from isoflop.laws.fitted import Fit
from isoflop.laws.source import load
from isoflop.plan.ladder_designed import designed
from isoflop.plan.ladder_recipes import Ground
from isoflop.plan.trunks import Layout, laid, of_budget
from isoflop.specs import ladder_file
from isoflop.specs.run import Run
from isoflop.train import ladder_trunks as ascent

TIMES = 10.0
STAND_IN = "besiroglu-2024"


def main() -> None:
    """Train both, fit both, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--budget", type=float, default=1e14, help="of the branched ladder, FLOP")
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/branches"))
    asked = parser.parse_args()
    plan = ladder_file.load(asked.plan, settings=asked.settings)
    layout = laid(plan) if plan.smallest_params else of_budget(plan, asked.budget)
    found, shards = loop.ascend(
        layout, asked.out / "trunks", text=asked.text, resume="auto", clock=loop.Clock(), listener=listener()
    )
    apart = _separate(found, layout, Ground(str(shards.folder), found.climb.setup.choice.threads, 1), asked.out)
    law, _, _ = ascent.fit_law(apart, folder=asked.out / "separate")
    result = compared(found, apart, law) | {"designed": half(found, layout, asked.out)}
    write_json(asked.out / "result.json", result)
    for name, value in result.items():
        print(f"{name}: {value}")


def listener() -> loop.Listener:
    """Lines as they come, and the end of each run."""

    def told(event: Any) -> None:
        if event.kind in ("finished", "diverged", "failed"):
            print(f"{event.done}/{event.total} {event.run_id} {event.loss_nats}", flush=True)

    return loop.Listener(say=lambda text: print(text, flush=True), progress=lambda _title: nullcontext(told))


def _separate(found: ascent.Ascent, layout: Layout, ground: Ground, out: Path) -> list[Run]:
    """Every point as a cosine run of its own, at the rates of the branches."""
    rates = {(run.n_params, run.role): run.learning_rate for run in found.climb.runs}
    with listener().progress("separate") as on_event:
        return ascent.train_points(
            replace(layout, plan=replace(layout.plan, design="grid")),
            ground,
            lambda n_params: float(rates[(n_params, "fit")] or 0.0),
            folder=out / "separate",
            made=found.climb.setup,
            where=loop.HERE,
            on_event=on_event,
        )


def compared(found: ascent.Ascent, apart: list[Run], law: Fit) -> dict[str, Any]:
    """Both laws and the pairs of runs."""
    ours = found.climb.law
    points = {_place(run): run for run in found.climb.runs if run.role == "fit" and run.loss_nats}
    pairs = [(points[_place(run)], run) for run in apart if run.loss_nats and _place(run) in points]
    gaps = np.array([np.log(a.loss_nats / b.loss_nats) for a, b in pairs])  # type: ignore[operator]
    target = TIMES * ours.max_compute_flop
    both = {"branches": ours, "separate": law}
    intervals = {name: each.intervals(level=0.9) for name, each in both.items()}
    at = {name: each.optimum(compute_flop=target, level=0.9).loss_nats for name, each in both.items()}
    said = found.climb.forecast
    kept_out = {
        name: each.predict(n_params=said.n_params, n_tokens=said.n_tokens, level=0.9) for name, each in both.items()
    }
    spent = sum(ascent.spent(run) for run in apart)
    return {
        "compute_ratio": found.points_flop / spent,
        "points": len(pairs),
        "log_loss_branch_over_separate": {"mean": float(gaps.mean()), "sd": float(gaps.std()), "worst": _worst(gaps)},
        "coefficients": {
            name: {
                **{which: [value[name].value, value[name].lo, value[name].hi] for which, value in intervals.items()},
                "intervals_meet": _meet(*(value[name] for value in intervals.values())),
            }
            for name in intervals["branches"]
        },
        "loss_at_ten_times": {name: [each.value, each.lo, each.hi] for name, each in at.items()},
        "each_in_the_other_s_interval": _inside(at["branches"], at["separate"]),
        "kept_out": {
            "measured": said.measured_nats,
            **{name: [each.value, each.lo, each.hi] for name, each in kept_out.items()},
        },
    }


def half(found: ascent.Ascent, layout: Layout, out: Path) -> dict[str, Any]:
    """The kept-out run forecast from the designed points of the same branches, at half the compute of the grid."""
    chosen = designed(layout, load(STAND_IN))
    wanted = {(size.n_params, size.tokens(point)) for size in chosen.sizes for point in size.points}
    runs = [run for run in found.climb.runs if (run.n_params, run.n_tokens) in wanted and run.role == "fit"]
    law, _, _ = ascent.fit_law(runs, folder=out / "designed")
    said = found.climb.forecast
    there = law.predict(n_params=said.n_params, n_tokens=said.n_tokens, level=0.9)
    return {
        "points": len(wanted),
        "compute_over_grid": chosen.points_flop / layout.separate_flop,
        "forecast": [there.value, there.lo, there.hi],
        "full_forecast": [said.loss_nats.value, said.loss_nats.lo, said.loss_nats.hi],
        "measured": said.measured_nats,
    }


def _place(run: Run) -> tuple[float, float, int | None]:
    return run.n_params, run.n_tokens, run.seed


def _worst(gaps: np.ndarray) -> float:
    return float(gaps[np.abs(gaps).argmax()])


def _meet(a: Any, b: Any) -> bool:
    return bool(a.lo <= b.hi and b.lo <= a.hi)


def _inside(a: Any, b: Any) -> bool:
    return bool(b.lo <= a.value <= b.hi and a.lo <= b.value <= a.hi)


if __name__ == "__main__":
    try:
        main()
    except IsoflopError as ended:  # stopped, preempted, a full disk: the same command goes on
        print(f"{type(ended).__name__}: {ended}", file=sys.stderr)
        sys.exit(ended.exit_code)
