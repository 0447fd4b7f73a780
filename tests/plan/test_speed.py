"""Speed against published steps that a fit has not seen, against planted factors, and against itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isoflop.count.flops import flops_per_token
from isoflop.count.memory_peak import memory
from isoflop.count.text import flop_per_text_token
from isoflop.errors import FitError, UsageError
from isoflop.plan.goodput_published import ledger
from isoflop.plan.speed import speed_of, speed_sweep, throughput
from isoflop.plan.speed_fit import FACTORS, START, Step, bounds, fit, left_out, predict
from isoflop.plan.speed_published import published
from isoflop.specs.cluster import Device
from isoflop.specs.layout import Layout, Training
from isoflop.specs.recipe_file import load
from isoflop.tables import find
from isoflop.tables.named import model

H100 = find("devices", Device, "h100-sxm")
UNKNOWN = find("devices", Device, "mi300x")
LLAMA = model("llama3-8b").architecture
PLAIN = Layout(sharding="zero3", recompute="none", devices=8, micro_batch=2, sequence=8192)


@pytest.fixture(scope="module")
def steps(shared_data: Path) -> list[Step]:
    return published(shared_data / "plan")


@pytest.fixture(scope="module")
def by_size(steps: list[Step]) -> np.ndarray:
    return left_out(steps, lambda step: step.size)


def test_a_model_size_left_out_is_told_within_5_percent_and_9_of_10_steps_within_15(by_size: np.ndarray) -> None:
    off = np.abs(np.expm1(by_size))
    assert np.median(off) <= 0.05
    assert np.quantile(off, 0.9) <= 0.15


def test_the_tables_bounds_hold_85_to_95_percent_of_steps_whose_size_was_left_out(
    steps: list[Step], by_size: np.ndarray
) -> None:
    rows = [speed_of(step.device) for step in steps]
    inside = [np.log(row.lo) <= -error <= np.log(row.hi) for row, error in zip(rows, by_size, strict=True)]
    assert 0.85 <= np.mean(inside) <= 0.95


def test_the_shipped_factors_are_those_of_the_fit(steps: list[Step]) -> None:
    fitted = fit(steps)
    for name in fitted.devices:
        row = speed_of(find("devices", Device, name))
        assert [getattr(row, factor) for factor in FACTORS] == pytest.approx(np.exp(fitted.of(name)), rel=2e-3)


def test_nine_of_ten_known_runs_took_the_hours_that_the_shipped_interval_says(shared_data: Path) -> None:
    runs = ledger(shared_data / "plan" / "run_ledger.csv")
    inside = [run.all_in_hours.lo <= run.device_hours <= run.all_in_hours.hi for run in runs]
    assert len(runs) >= 15
    assert np.mean(inside) >= 0.9


def planted(truth: dict[str, float], device: Device) -> list[Step]:
    """Steps of many shapes and layouts that take exactly as long as these factors say."""
    made = []
    for name in ("pythia-160m", "pythia-1.4b", "llama3-8b", "llama2-70b"):
        architecture = model(name).architecture
        for sequence in (512, 2048):
            for layout in (
                Layout(sharding="zero3", recompute="none", devices=8, micro_batch=4, sequence=sequence),
                Layout(sharding="zero3", recompute="full", devices=64, micro_batch=1, sequence=sequence),
                Layout(sharding="ddp", recompute="none", devices=8, micro_batch=1, sequence=sequence, tensor=8),
            ):
                for precision in ("bf16", "fp8"):
                    made.append(  # noqa: PERF401 - four loops deep
                        Step(
                            size=name, device=device, architecture=architecture, layout=layout,
                            training=Training(precision=precision), tokens_per_s_per_device=1.0,
                        )
                    )  # fmt: skip
    theta = np.log([truth[factor] for factor in FACTORS])
    from isoflop.plan.speed_fit import Fitted

    said = predict(made, Fitted(common=theta, devices={}))
    return [replace(step, tokens_per_s_per_device=rate) for step, rate in zip(made, said, strict=True)]


def test_planted_factors_are_found_again() -> None:
    truth = {name: value * 1.2 for name, value in START.items()}
    found = np.exp(fit(planted(truth, H100)).of("h100-sxm"))
    assert found == pytest.approx([truth[name] for name in FACTORS], rel=0.05)


def test_a_device_without_steps_takes_what_the_others_have_in_common() -> None:
    fitted = fit(planted(START, H100))
    assert fitted.of("nobody's").tolist() == fitted.common.tolist()


def test_a_fit_of_nothing_is_refused() -> None:
    with pytest.raises(FitError, match="at least one"):
        fit([])


def test_bounds_hold_their_share_of_errors() -> None:
    errors = np.random.default_rng(0).normal(0, 0.1, 20_000)
    lo, hi = bounds(errors)
    assert lo == pytest.approx(np.exp(-0.1645), rel=0.01)
    assert lo * hi == pytest.approx(1)


def test_the_parts_of_a_step_add_up_to_it_and_mfu_is_work_over_peak() -> None:
    found = throughput(H100, LLAMA, PLAIN)
    assert sum(found.parts_s.values()) == pytest.approx(found.step_s.value)
    work = flops_per_token(LLAMA, sequence=8192).total * found.tokens_per_s_per_device.value
    assert found.mfu.value == pytest.approx(work / 989.4e12)
    assert found.tokens_per_s_per_device.value == pytest.approx(2 * 8192 / found.step_s.value)


@given(
    tensor=st.sampled_from([1, 2, 8]),
    pipeline=st.sampled_from([1, 2, 4]),
    micro_batch=st.integers(1, 8),
    accumulation=st.integers(1, 8),
    recompute=st.sampled_from(["none", "selective", "full"]),
    sharding=st.sampled_from(["ddp", "zero1", "zero3"]),
)
def test_a_sweep_says_of_each_layout_what_it_says_alone(**fields: object) -> None:
    layout = replace(PLAIN, devices=256, **fields)
    columns: dict[str, Any] = {name: np.array([getattr(layout, name)] * 2) for name in Layout.__struct_fields__}
    swept, alone = speed_sweep(H100, LLAMA, **columns), throughput(H100, LLAMA, layout)
    assert swept.mfu == pytest.approx([alone.mfu.value] * 2)
    assert swept.mfu_lo == pytest.approx([alone.mfu.lo] * 2)
    assert 0 < alone.mfu.lo < alone.mfu.value < alone.mfu.hi < 1


def test_recomputation_idle_stages_and_a_slow_network_cost_speed() -> None:
    def mfu(layout: Layout, device: Device = H100) -> float:
        return throughput(device, LLAMA, layout).mfu.value

    assert mfu(PLAIN) > mfu(replace(PLAIN, recompute="selective")) > mfu(replace(PLAIN, recompute="full"))
    piped = replace(PLAIN, pipeline=4, accumulation=4)
    assert mfu(piped) < mfu(replace(piped, accumulation=32))
    assert mfu(piped) < mfu(replace(piped, virtual_stages=4))
    far = replace(PLAIN, devices=64)
    assert mfu(far) > mfu(far, replace(H100, network_bytes_per_s=5e9))


def test_an_interval_widens_for_a_device_nobody_measured_and_for_a_size_nobody_ran() -> None:
    def width(device: Device, name: str) -> float:
        found = throughput(device, model(name).architecture, replace(PLAIN, sequence=1024)).mfu
        return float(np.log(found.hi / found.lo))

    assert width(UNKNOWN, "llama3-8b") > 2 * width(H100, "llama3-8b")
    assert width(H100, "pythia-70m") > 1.5 * width(H100, "llama3-8b")
    assert width(H100, "mixtral-8x7b") > 2 * width(H100, "llama3-8b")


def test_a_reader_is_told_what_nobody_measured() -> None:
    assert throughput(H100, LLAMA, PLAIN).warnings == []
    said = " ".join(throughput(UNKNOWN, LLAMA, replace(PLAIN, devices=64)).warnings)
    assert "isoflop calibrate" in said
    assert "network of mi300x is not in the tables" in said
    small = replace(PLAIN, sequence=1024)
    assert "smaller" in " ".join(throughput(H100, model("pythia-70m").architecture, small).warnings)


@pytest.mark.parametrize("name", ["tiny", "bert-base", "t5-base", "t5-like"])
def test_a_step_does_the_work_that_the_objective_asks_for_of_its_text(name: str) -> None:
    """Against `count.text`, which counts a run's work by another way."""
    recipe = load(Path(__file__).resolve().parents[2] / "recipes" / f"{name}.toml")
    row, rows = recipe.row, 4
    layout = Layout(sharding="ddp", recompute="none", devices=1, micro_batch=rows, sequence=row.inputs)
    found = throughput(H100, recipe.model, layout, Training(said=row.said))
    work = found.mfu.value * found.step_s.value * H100.dense_flop_per_s["bf16"]
    assert work == pytest.approx(flop_per_text_token(recipe) * rows * row.text, rel=1e-3)
    assert found.tokens_per_s_per_device.value * found.step_s.value == pytest.approx(rows * row.inputs)


def test_a_decoder_that_writes_less_and_a_head_that_says_less_are_faster_and_need_less_memory() -> None:
    for name in ("bert-base", "t5-base"):
        architecture = load(Path(__file__).resolve().parents[2] / "recipes" / f"{name}.toml").model
        all_said, said, some = (Training(said=said) for said in (None, 512.0, 77.0))
        layout = replace(PLAIN, sequence=512)
        speeds = [throughput(H100, architecture, layout, each).step_s.value for each in (all_said, said, some)]
        needs = [memory(architecture, layout, each).total_bytes for each in (all_said, said, some)]
        for whole, same, less in (speeds, needs):
            assert whole == pytest.approx(same)
            assert less < whole


def test_the_head_holds_12_bytes_a_word_of_each_token_said() -> None:
    architecture = load(Path(__file__).resolve().parents[2] / "recipes" / "bert-base.toml").model
    layout = Layout(sharding="ddp", recompute="none", devices=1, micro_batch=8, sequence=512)
    for said in (None, 400.0, 300.0):
        need = memory(architecture, layout, Training(said=said))
        assert need.moment == "loss"
        assert need.parts["loss_head"] == pytest.approx(12 * 8 * (said or 512) * 30_522)


def test_a_package_of_two_dies_is_two_devices_of_half_the_speed() -> None:
    package, die = (find("devices", Device, name) for name in ("mi250x", "mi250x-die"))
    both = [throughput(device, LLAMA, PLAIN).tokens_per_s_per_device.value for device in (package, die)]
    assert both[0] == pytest.approx(both[1])


def test_a_row_of_ones_own_replaces_the_shipped_one(tmp_path: Path) -> None:
    row = speed_of(H100)
    mine = tmp_path / "mine.toml"
    fields = "\n".join(f"{name} = {getattr(row, name)}" for name in (*FACTORS, "lo", "hi", "per_decade", "rows"))
    mine.write_text(
        f'[speeds.H100]\nsource = "me"\nn_params = [1e6, 1e12]\n{fields}\n'.replace("products = ", "products = 1")
    )
    slower = throughput(H100, LLAMA, PLAIN, tables=mine).mfu.value
    assert slower < 0.3 * throughput(H100, LLAMA, PLAIN).mfu.value


@pytest.mark.parametrize(
    ("precision", "level", "told"), [("fp8", 0.9, "no fp8 peak"), ("bf16", 1.0, "level"), ("bf16", 0.0, "level")]
)
def test_what_cannot_be_answered_is_refused(precision: str, level: float, told: str) -> None:
    device = find("devices", Device, "a100-sxm-80")
    with pytest.raises(UsageError, match=told):
        throughput(device, LLAMA, PLAIN, Training(precision=precision), level=level)  # type: ignore[arg-type]


def test_layouts_of_two_precisions_or_sequences_are_refused_together() -> None:
    columns = {name: getattr(PLAIN, name) for name in Layout.__struct_fields__}
    with pytest.raises(UsageError, match="one precision"):
        speed_sweep(H100, LLAMA, **columns, precision=["bf16", "fp8"])
    with pytest.raises(UsageError, match="one sequence"):
        speed_sweep(H100, LLAMA, **columns | {"sequence": [1024, 2048]})
