"""The ladders we ship: their runs, read by the law's command, give the law whose forecast was written beforehand."""

import math
from datetime import datetime
from pathlib import Path

import pytest

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.files import read_json, read_lines
from isoflop.laws.fit import fit
from isoflop.specs.run import Run
from isoflop.train.ladder import Forecast
from isoflop.train.ladder_trunks import fit_law

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "examples" / "ladders").glob("*/runs.jsonl"))
pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def read(folder: Path) -> tuple[list[Run], Run, Forecast]:
    """All runs, the kept-out one, and what was said of it."""
    runs = read_lines(folder / "runs.jsonl", Run)
    (kept_out,) = (run for run in runs if run.role == "held_out")
    return runs, kept_out, read_json(folder / "forecast.json", Forecast)


def test_the_forecast_was_written_before_its_run_began_and_a_miss_is_said(folder: Path) -> None:
    runs, kept_out, said = read(folder)
    assert said.blind
    assert kept_out.stamp is not None
    assert datetime.fromisoformat(said.written) <= datetime.fromisoformat(kept_out.stamp.time)
    assert (said.run_id, said.measured_nats) == (kept_out.id, kept_out.loss_nats)
    assert said.held is not None
    page = (folder.parent / "README.md").read_text().splitlines()
    (told,) = (line for line in page if line.startswith(f"| `{folder.name}/` |"))
    assert told.endswith("outside** |") is not said.held
    assert kept_out.flop >= 4 * max(run.flop for run in runs if run.role == "fit")


def test_law_fit_takes_the_points_alone_and_comes_to_the_loss_that_was_foretold(folder: Path) -> None:
    runs, kept_out, said = read(folder)
    law = fit(folder / "runs.jsonl", rivals=())
    assert set(law.residuals) == {run.id for run in runs if run.role == "fit"}
    assert len(law.dropped) == sum(run.role != "fit" for run in runs)
    again = law.predict(n_params=kept_out.n_params, n_tokens=kept_out.n_tokens, level=0.9)
    assert said.loss_nats.lo < again.value < said.loss_nats.hi


def test_the_same_points_weighed_as_the_ladder_does_give_the_forecast_again(folder: Path, tmp_path: Path) -> None:
    runs, kept_out, said = read(folder)
    law, noise, _ = fit_law([run for run in runs if run.role in ("fit", "trunk")], folder=tmp_path)
    again = law.predict(n_params=kept_out.n_params, n_tokens=kept_out.n_tokens, level=0.9)
    assert again.value == pytest.approx(said.loss_nats.value, rel=1e-3)
    assert math.log(again.hi / again.lo) == pytest.approx(math.log(said.loss_nats.hi / said.loss_nats.lo), rel=0.02)
    assert noise is not None
    assert 0 < noise.sd < 0.02


def test_every_convention_of_n_and_c_is_in_every_run(folder: Path) -> None:
    runs, _, _ = read(folder)
    for run in runs:
        assert run.status == "finished"
        assert run.parameters is not None
        assert run.architecture is not None
        assert run.n_params == parameters(run.architecture).total
        counted = {way: run.parameters.by(way) for way in ("total", "non_embedding", "matmul")}
        assert counted["total"] == run.n_params
        assert counted["non_embedding"] < counted["matmul"] < counted["total"]
        assert run.flop == run.compute_flop == pytest.approx(6 * run.n_params * run.n_tokens)
        exact = run.n_tokens * flops_per_token(run.architecture, sequence=run.architecture.context).total
        assert (run.whole_model_flop or run.model_flop) == pytest.approx(exact, rel=1e-6)
        own = 1.0 if run.origin is None else 1 - run.origin.n_tokens / run.n_tokens
        assert (run.spent_flop or run.flop) == pytest.approx(own * run.flop)
        assert run.bits_per_byte is not None
        assert run.validation == runs[0].validation
