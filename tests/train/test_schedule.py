"""Schedules against their closed forms."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.specs.schedule import Schedule
from isoflop.train.schedule import multiplier

NAMES = ("wsd", "cosine", "linear", "inverse-sqrt")


def curve(schedule: Schedule, steps: int) -> list[float]:
    return [multiplier(schedule, step=step, steps=steps) for step in range(steps)]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    name = draw(st.sampled_from(NAMES))
    warmup = draw(st.floats(0, 1))
    whole = name in ("cosine", "linear")
    cooldown = None if whole else draw(st.floats(0.01, 1)) * (1 - warmup)
    final = draw(st.floats(0, 1)) if whole or cooldown else 0.0
    shape = draw(st.sampled_from([None, "1-sqrt", "linear"])) if cooldown else None
    return Schedule(
        name=name,  # type: ignore[arg-type]
        warmup_fraction=warmup,
        cooldown_fraction=cooldown,
        cooldown_shape=shape,  # type: ignore[arg-type]
        final_fraction=final,
        warmup_from=draw(st.one_of(st.just(0.0), st.floats(0, 1))),
    )


@given(schedules(), st.integers(1, 300))
def test_every_rate_is_above_0_and_none_above_the_peak(schedule: Schedule, steps: int) -> None:
    assert all(0 < rate <= 1 for rate in curve(schedule, steps))


@given(schedules(), st.integers(1, 300))
def test_a_rate_rises_in_the_warmup_and_never_again(schedule: Schedule, steps: int) -> None:
    warmup, rates = round(schedule.warmup_fraction * steps), curve(schedule, steps)
    first, rise = schedule.warmup_from, (1 - schedule.warmup_from) / (warmup + 1)
    assert rates[:warmup] == pytest.approx([first + rise * (step + 1) for step in range(warmup)], rel=1e-12)
    after = rates[warmup:]
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(after))


@pytest.mark.parametrize("steps", [40, 1000])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_a_cosine_is_at_the_peak_after_its_warmup_half_way_in_the_middle_and_at_its_end_at_the_end(
    steps: int, final: float
) -> None:
    schedule = Schedule(name="cosine", warmup_fraction=0.1, final_fraction=final)
    warmup = steps // 10
    decay = steps - warmup
    assert multiplier(schedule, step=warmup, steps=steps) == 1
    assert multiplier(schedule, step=warmup + decay // 2, steps=steps) == pytest.approx((1 + final) / 2)
    # cos(pi (1 - x)) = -1 + (pi x)^2 / 2 - ...: the last step is one of `decay` before the end.
    last = final + (1 - final) * (math.pi / decay) ** 2 / 4
    assert multiplier(schedule, step=steps - 1, steps=steps) == pytest.approx(last, abs=(math.pi / decay) ** 4)


def test_a_cosine_is_matched_to_the_length_of_its_run() -> None:
    schedule = Schedule(name="cosine", warmup_fraction=0.0)
    assert curve(schedule, 1000)[::10] == pytest.approx(curve(schedule, 100))


def test_a_linear_decay_takes_equal_steps() -> None:
    schedule = Schedule(name="linear", warmup_fraction=0.2, final_fraction=0.25)
    rates = curve(schedule, 50)[10:]
    assert rates[0] == 1
    assert [a - b for a, b in pairwise(rates)] == pytest.approx([0.75 / 40] * 39)


def test_an_inverse_square_root_halves_where_the_step_is_four_times_as_far_whatever_the_length() -> None:
    schedule = Schedule(name="inverse-sqrt", warmup_fraction=0.0)
    rates = curve(schedule, 400)
    assert rates[0] == 1
    assert [rates[4 * k - 1] / rates[k - 1] for k in (1, 10, 100)] == pytest.approx([0.5] * 3)
    assert curve(schedule, 100) == rates[:100]


def test_an_inverse_square_root_meets_its_warmup_at_the_peak() -> None:
    schedule = Schedule(name="inverse-sqrt", warmup_fraction=0.25)
    rates = curve(schedule, 400)
    assert max(rates) == rates[100] == 1
    assert rates[:101] == pytest.approx([(k + 1) / 101 for k in range(101)])


@pytest.mark.parametrize("final", [0.0, 0.3])
def test_cooldowns_are_their_closed_forms(final: float) -> None:
    """A cooldown of 3 steps has progress 1/4, 2/4, 3/4; the end itself would be the step after the last."""
    for shape, left in (("linear", [0.75, 0.5, 0.25]), ("1-sqrt", [0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)])):
        schedule = Schedule(
            warmup_fraction=0.0,
            cooldown_fraction=0.3,
            cooldown_shape=shape,  # type: ignore[arg-type]
            final_fraction=final,
        )
        assert curve(schedule, 10) == pytest.approx([1.0] * 7 + [final + (1 - final) * each for each in left])


def test_the_trunk_of_a_longer_run_is_that_of_a_shorter_one_until_its_cooldown() -> None:
    """What lets cooldowns branch off one trunk: with equal warmups in steps, nothing before them knows the length."""
    short = curve(Schedule(warmup_fraction=0.2, cooldown_fraction=0.2), 50)
    long = curve(Schedule(warmup_fraction=0.1, cooldown_fraction=0.1), 100)
    assert short[:40] == long[:40]


def test_a_cooldown_of_an_inverse_square_root_starts_from_where_it_is() -> None:
    plain = curve(Schedule(name="inverse-sqrt"), 100)
    cooled = curve(Schedule(name="inverse-sqrt", cooldown_fraction=0.4, cooldown_shape="linear"), 100)
    assert cooled[:60] == plain[:60]
    assert [a / b for a, b in zip(cooled[60:], plain[60:], strict=True)] == pytest.approx(
        [1 - k / 41 for k in range(1, 41)]
    )
