"""Ten small ladders on other texts and seeds: how often does the 90 % interval hold the kept-out run?

    python benchmarks/ladder_ten.py ../shared/data/text --budget 5e13 --out runs/ten

The argument is a folder of texts (or one text); ladder i takes text i modulo their number and seed i. Each ladder's
kept-out run costs at least four times its dearest fitted one, and is forecast before it is trained. Printed and written
to OUT/result.json after every ladder: how many held, how likely so few are at 90 %, and every miss. Ladders that
are finished are not trained again; stopped anywhere, the same command goes on.
"""

import argparse
from math import comb
from pathlib import Path
from typing import Any

from ladder_branches import listener
from msgspec.structs import replace

from isoflop import loop
from isoflop.errors import FitError
from isoflop.files import write_json
from isoflop.plan.trunks import laid, of_budget
from isoflop.specs import ladder_file
from isoflop.specs.ladder_plan import LadderPlan

LEAST = 4.0  # kept-out compute over the dearest fitted run's
_TEXTS = (".txt", ".jsonl", ".jsonl.gz")


def main() -> None:
    """Climb them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--budget", type=float, default=5e13, help="of each ladder, FLOP")
    parser.add_argument("--ladders", type=int, default=10)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/ten"))
    asked = parser.parse_args()
    texts = texts_in(asked.text)
    plan = ladder_file.load(asked.plan, settings=asked.settings)
    if plan.held_out < LEAST:
        parser.error(f"held_out is {plan.held_out:g}; the kept-out run costs at least {LEAST:g} times the dearest")
    told: list[dict[str, Any]] = []
    for i in range(asked.ladders):
        text, seed = texts[i % len(texts)], plan.seed + 100 * i  # seeds of one ladder's repeats are its neighbours
        folder = asked.out / f"{i:02d}-{text.name.partition('.')[0]}"
        told.append(one(replace(plan, seed=seed), text, folder, budget=asked.budget))
        result = counted(told)
        write_json(asked.out / "result.json", result)
        print({name: value for name, value in result.items() if name != "ladders"}, flush=True)


def texts_in(path: Path) -> list[Path]:
    """The texts, by name."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith(_TEXTS))
    if not found:
        raise SystemExit(f"{path}: no text in it that ends in {', '.join(_TEXTS)}")
    return found


def one(plan: LadderPlan, text: Path, folder: Path, *, budget: float) -> dict[str, Any]:
    """A ladder and what became of its forecast; one that cannot be fitted is told as such and counts as a miss."""
    layout = laid(plan) if plan.smallest_params else of_budget(plan, budget)
    try:
        found, _ = loop.ascend(layout, folder, text=text, resume="auto", clock=loop.Clock(), listener=listener())
    except FitError as error:
        return {"text": text.name, "seed": plan.seed, "held": False, "reason": str(error)}
    said = found.climb.forecast
    return {
        "text": text.name,
        "seed": plan.seed,
        "held": bool(said.held),
        "blind": said.blind,
        "forecast": [said.loss_nats.value, said.loss_nats.lo, said.loss_nats.hi],
        "measured": said.measured_nats,
        "times_the_dearest": said.compute_flop / found.climb.law.max_compute_flop,
        "error": None if said.measured_nats is None else said.loss_nats.value / said.measured_nats - 1,
        "noise_sd": found.noise.sd if found.noise else None,
        "misfit_sd": found.misfit_sd,
        "rate_at_edge": bool(found.rates and found.rates.warnings),
        "compute_flop": found.compute_flop,
    }


def counted(told: list[dict[str, Any]]) -> dict[str, Any]:
    """How many held, and those that did not."""
    held, total = sum(each["held"] for each in told), len(told)
    return {
        "held": held,
        "of": total,
        "chance_of_so_few_at_90_percent": sum(comb(total, k) * 0.9**k * 0.1 ** (total - k) for k in range(held + 1)),
        "misses": [each for each in told if not each["held"]],
        "ladders": told,
    }


if __name__ == "__main__":
    main()
