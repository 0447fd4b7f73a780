"""What is said of a choice of mixture once its check has been measured."""

import numpy as np
import pytest

from isoflop.laws.mixture_advice import advise
from isoflop.laws.mixture_table import MixtureTable
from isoflop.plan.mixture_plan import laid
from isoflop.report import mix_story
from isoflop.specs.interval import Interval
from isoflop.stamp import make
from isoflop.train.mix import Mix, MixForecast, Said

NOISE = 0.002


@pytest.fixture(scope="module")
def before() -> Mix:
    """A choice from planted runs, its check not yet trained."""
    plan = laid({"a": 5_000_000, "b": 3_000_000, "c": 900_000}, vocabulary=512, budget_flop=1e13, runs=24)
    random = np.random.default_rng(0)
    shares = np.array([trial.shares for trial in plan.trials])
    losses = (3 - 0.1 * np.log(shares + 0.02)) * np.exp(NOISE * random.standard_normal((24, 1)))
    table = MixtureTable(plan.domains, plan.domains, shares, losses, tuple(map(str, range(24))), (), "planted", "")
    law, advice = advise(table, dict.fromkeys(plan.domains, 1 / 3), most=np.array(plan.most))
    said = MixForecast(written="2026-11-21T10:00:00+00:00", blind=True, law_sha256="", checks=[], stamp=make())
    return Mix(plan=plan, runs=[], table=table, law=law, advice=advice, forecast=said)


def measured(before: Mix, **losses: list[float]) -> Mix:
    """With these losses in the check, a number a seed."""
    checks = [
        Said(
            mixture=name,
            source="",
            shares=dict.fromkeys(before.plan.domains, 1 / 3),
            loss_nats=Interval(value=3.2, lo=3.19, hi=3.21),
            runs=[f"{name}-{i}" for i in range(len(seeds))],
            by_run=seeds,
            measured_nats=sum(seeds) / len(seeds),
        )
        for name, seeds in losses.items()
    ]
    forecast = MixForecast(written="2026-11-21T10:00:00+00:00", blind=True, law_sha256="", checks=checks, stamp=make())
    return Mix(plan=before.plan, runs=[], table=before.table, law=before.law, advice=before.advice, forecast=forecast)


def test_a_choice_that_loses_is_called_worse_first(before: Mix) -> None:
    found = measured(before, chosen=[3.20], natural=[3.15], uniform=[3.205], temperature=[3.30])
    assert [found.verdict(each) for each in found.forecast.checks[1:]] == ["worse", "as good", "better"]
    said = mix_story.verdicts(found)
    assert "WORSE than natural (−0.0500 nats)" in said[0]
    assert "as good as uniform" in said[1]
    assert "better than temperature (+0.1000 nats)" in said[2]


def test_more_seeds_tell_smaller_differences(before: Mix) -> None:
    one = measured(before, chosen=[3.20], natural=[3.212])
    four = measured(before, chosen=[3.198, 3.202, 3.201, 3.199], natural=[3.210, 3.214, 3.211, 3.213])
    assert one.verdict(one.forecast.checks[1]) == "as good"
    assert four.verdict(four.forecast.checks[1]) == "better"
    assert one.noise.freedom == 3
    assert four.noise.freedom == 9
    assert four.noise.sd == pytest.approx(NOISE, rel=1.0)


def test_two_names_of_one_mixture_are_as_good(before: Mix) -> None:
    found = measured(before, chosen=[3.2], natural=[3.2])
    same = [Said(**{name: getattr(each, name) for name in each.__struct_fields__} | {"runs": ["x"]})
            for each in found.forecast.checks]  # fmt: skip
    forecast = MixForecast(written="2026-11-21T10:00:00+00:00", blind=True, law_sha256="", checks=same, stamp=make())
    twin = Mix(plan=found.plan, runs=[], table=found.table, law=found.law, advice=found.advice, forecast=forecast)
    assert twin.verdict(same[1]) == "as good"
    assert "the same mixture" in mix_story.verdicts(twin)[0]


def test_a_rule_that_repeats_a_small_domain_too_often_is_named(before: Mix) -> None:
    plan = laid(
        {"a": 5_000_000, "b": 3_000_000, "c": 90_000}, vocabulary=512, budget_flop=1e13, runs=24, for_tokens=2e7
    )
    found = measured(before, chosen=[3.2], uniform=[3.2])
    told = mix_story.cautions(
        Mix(plan=plan, runs=[], table=found.table, law=found.law, advice=found.advice, forecast=found.forecast)
    )
    assert any("uniform reads c 74.1 times in 20M tokens" in sentence for sentence in told)
    assert any("capped at 4 epochs" in sentence for sentence in told)
