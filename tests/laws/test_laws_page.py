"""docs/laws.md does what it says."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pages import commands, holds

from isoflop.cli import app
from isoflop.cli.shell import guarded
from isoflop.files import read_lines
from isoflop.specs.run import Run

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "laws.md").read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which the page's paths lead to the repository's examples, and where it may write."""
    place = tmp_path_factory.mktemp("page")
    (place / "examples").symlink_to(ROOT / "examples")
    return place


@pytest.fixture(scope="module")
def story(home: Path) -> dict[str, Any]:
    """All names that the page's Python defines, run in order."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(block, names)
    return names


def test_every_command_prints_what_the_page_shows(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert len(commands(PAGE)) >= 7
    for args, pieces in commands(PAGE):
        monkeypatch.setattr(sys, "argv", ["isoflop", *args])
        guarded(app)
        holds(capfd.readouterr().out, pieces, command=args)


def said(pattern: str) -> list[float]:
    """The numbers that the page gives at this place."""
    match = re.search(pattern, PAGE)
    assert match, f"the page no longer says {pattern!r}"
    return [float(number) for number in match.groups()]


def test_the_coefficients_and_the_certificate_are_those_of_the_page(story: dict[str, Any]) -> None:
    assert said(r'law\.exponents\["a"\]  # ([\d.]+): N') == [pytest.approx(story["a"], abs=5e-4)]
    assert story["interval"].lo < story["a"] < story["interval"].hi
    assert story["agree"] == (25, 25)
    assert story["sound"]


def test_the_ladder_cost_the_time_that_the_page_says() -> None:
    runs = read_lines(ROOT / "examples" / "ladders" / "standard-library.jsonl", Run)
    assert len(runs) == 21
    assert said(r"took (\d+) minutes of one processor core") == [round(sum(run.wall_s or 0.0 for run in runs) / 60)]


def test_the_cheaper_half_foresees_the_dearer_half_as_told(story: dict[str, Any]) -> None:
    assert story["cheap"].n_runs == 10
    assert len(story["dearer"].labels) == 10
    assert story["missed_by"] < said(r"under (\d+) %")[0] / 100
    assert said(r'law\.law\.exponents\["a"\]  # (0\.015)') == [pytest.approx(story["drift"], abs=5e-4)]
    law = story["law"]
    exponents = [*(origin.exponent for origin in law.backtest[:2]), story["a"]]
    assert said(r"\*a\* read\s(\.\d+), then\s(\.\d+), then\s(\.\d+)") == pytest.approx(exponents, abs=0.01)


def test_the_formula_misses_the_proof_as_told_and_the_forecast_misses_it_by_less(story: dict[str, Any]) -> None:
    assert said(r"It\smeasured\s([\d.]+):") == [pytest.approx(story["measured"], abs=1e-4)]
    for place in (r"# (\d+) % too high", r"formula alone is\s(\d+) % too high"):
        assert said(place) == [pytest.approx(100 * story["formula"], abs=0.5)]
    assert abs(story["forecast"].value / story["measured"] - 1) < story["formula"]
    times = float(story["proof"].compute_flop[0]) / story["law"].max_compute_flop
    assert said(r"only\s([\d.]+)\stimes\sthe\scompute") == [pytest.approx(times, abs=0.05)]


def test_the_ladder_has_the_one_warning_that_the_page_explains(story: dict[str, Any]) -> None:
    (warning,) = story["warned"]
    assert f"{said(r'its E, ([0-9.]+) bits per byte')[0]:g} bits per byte" in warning


def test_a_wrong_optimum_costs_little_and_the_optimum_is_less_known_farther_out(story: dict[str, Any]) -> None:
    assert story["best"].n_params.lo < story["best"].n_params.value < story["best"].n_params.hi
    assert 0 < story["small"] < 0.2
    assert np.all(np.diff(story["wider"]) > 0)


def test_the_pitfalls_are_as_deep_as_told(story: dict[str, Any]) -> None:
    assert story["near"] == []
    assert "a law is a guess" in story["far"][0]
    assert said(r"by_total = .*# ([\d.]+)") == [pytest.approx(story["by_total"], abs=5e-3)]
    assert said(r"by_body = .*# ([\d.]+)") == [pytest.approx(story["by_body"], abs=5e-3)]
    assert said(r"# (\d+) against (\d+)") == pytest.approx(story["A"], abs=0.5)
    assert any("barely begun" in why for why in story["kept_out"].dropped)
    assert story["kept_out"].variants


def test_every_link_of_the_page_leads_somewhere(home: Path) -> None:
    links: Callable[[str], list[str]] = re.compile(r"\]\(([^)#:]+)\)").findall
    assert links(PAGE)
    for link in links(PAGE):
        assert (ROOT / "docs" / link).is_file()
