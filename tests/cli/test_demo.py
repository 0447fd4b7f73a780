"""The loop of the demo for real, as small as it gets: text, tokens, seven runs, law, forecast, proof, plans, page."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from isoflop import loop
from isoflop.files import read_json, write_json
from isoflop.laws.fit import fit
from isoflop.laws.fitted import Fit
from isoflop.plan.ladder import Ladder, of_budget
from isoflop.train.choose import Alone, Choice
from isoflop.train.cores import cores
from isoflop.train.ladder import MACHINE, Climb, Forecast, Setup
from isoflop.train.meter import Machine, Rate
from isoflop.train.sweep import SweepEvent

PLAN = of_budget(
    40e9,
    Ladder(cheapest_flop=1e9, levels=2, sizes=3, layers=1, vocabulary=300, context=32, batch_tokens=128),
)
QUESTION = "8xH100 for 7 days"


def setup() -> Setup:
    """The machine as a ladder in this folder would have measured it, up to its rates; `test_ladder` measures it."""
    usable = cores().usable
    workers = min(2, usable)
    ways = {(1, usable), (workers, 1), (usable, 1)}
    rates = [Rate(precision="fp32", processes=n, threads=each, flop_per_s=5e10) for n, each in sorted(ways)]
    machine = Machine(
        torch="", cuda=None, accelerators=[], cores=usable, rates=rates, copy_bytes_per_s=1e10, how="not measured"
    )
    choice = Choice(workers=workers, threads=1, reason="as the test wants it")
    return Setup(machine=machine, choice=choice, alone=Alone(threads=usable))


def climb(folder: Path, text: Path) -> tuple[Climb, loop.Grounds, list[SweepEvent], loop.Clock]:
    """All of it, or what is left of it."""
    events: list[SweepEvent] = []

    @contextmanager
    def progress(_title: str) -> Iterator[Any]:
        yield events.append

    listener, clock = loop.Listener(say=lambda _: None, progress=progress), loop.Clock()
    grounds = loop.grounds(folder, text=text, plan=PLAN, clock=clock, listener=listener)
    return loop.climb(grounds, folder, clock=clock, listener=listener), grounds, events, clock


@pytest.fixture(scope="module")
def climbed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Climb]:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "ladder").mkdir()
    write_json(folder / "ladder" / MACHINE, setup())
    return folder, climb(folder, text)[0]


def test_all_runs_finish_and_the_proof_stays_out_of_the_fit(climbed: tuple[Path, Climb]) -> None:
    folder, found = climbed
    assert [run.status for run in found.runs] == ["finished"] * 7
    proof = [run for run in found.runs if run.role == "held_out"]
    assert len(proof) == 1
    law = read_json(folder / "ladder" / "law.json", Fit)
    assert law.n_runs == 6
    assert proof[0].id not in law.residuals
    assert proof[0].flop > 3 * law.max_compute_flop
    assert fit(folder / "ladder" / "runs.jsonl", draws=20).law == law.law


def test_the_forecast_was_written_before_the_proof_began(climbed: tuple[Path, Climb]) -> None:
    folder, found = climbed
    said = read_json(folder / "ladder" / "forecast.json", Forecast)
    proof = next(run for run in found.runs if run.role == "held_out")
    assert proof.stamp is not None
    assert said.blind
    assert datetime.fromisoformat(said.written) <= datetime.fromisoformat(proof.stamp.time)
    assert said.measured_nats == proof.loss_nats


def test_the_models_learned_the_rule_of_the_text(climbed: tuple[Path, Climb]) -> None:
    losses = [run.loss_nats or 9.9 for run in climbed[1].runs]
    assert max(losses) < 4.5  # ln 300 = 5.7 is what an untrained model has
    assert min(losses) < 2.5


def test_started_once_more_it_trains_nothing_and_says_the_same(climbed: tuple[Path, Climb], text: Path) -> None:
    folder, before = climbed
    again, grounds, events, clock = climb(folder, text)
    assert {event.kind for event in events} == {"skipped"}
    assert [run.loss_nats for run in again.runs] == [run.loss_nats for run in before.runs]
    assert again.forecast.written == before.forecast.written

    answers = loop.plans(again, folder, question=QUESTION, clock=clock)
    page = loop.page(again, grounds, folder, question=QUESTION, answers=answers, clock=clock)
    html = page.read_text()
    assert f"{again.forecast.measured_nats:.3f}"[:5] in html
    assert all(run.id in html for run in again.runs)
    assert "a guess" in html  # 1e21 FLOP from runs of 1e10: the extrapolation is said out loud
    assert 'src="http' not in html
    assert {stage.name for stage in clock.stages} >= {"text to tokens", "ladder", "proof", "plan", "page"}
