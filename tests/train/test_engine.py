"""What is left to "auto" is settled by size from measured gains, said, and kept by the run."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isoflop import files
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import StoppedError
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.tables import find, rows
from isoflop.train import engine, store
from isoflop.train.engine import Gains, at_width, settle
from isoflop.train.events import Event
from isoflop.train.loop import train

CPU = torch.device("cpu")
NANO = Decoder(layers=3, width=64, heads=2, kv_heads=1, head_size=32, hidden=192, vocabulary=1024, context=128)
SMALL = Decoder(layers=6, width=384, heads=6, kv_heads=6, head_size=64, hidden=1024, vocabulary=8192, context=256)
RECIPE = Recipe(name="auto", shards="", model=NANO, n_tokens=600_000, batch_tokens=2048, precision="auto", device="cpu")


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bf16 natively, whatever this one does."""
    monkeypatch.setattr(engine, "bf16_products", lambda threads: 2.1)


def test_every_row_names_its_source() -> None:
    found = rows("engines", Gains)
    assert set(found) == {"cpu", "cuda"}
    assert all(len(row.source) > 40 for row in found.values())


@pytest.mark.usefixtures("native")
def test_small_models_train_in_fp32_and_large_ones_in_bf16() -> None:
    nano, small = settle(RECIPE, CPU), settle(replace(RECIPE, model=SMALL), CPU)
    assert (nano.precision, small.precision) == ("fp32", "bf16")
    assert nano.reasons == ("fp32 because at width 64 steps in bf16 are x0.69 as fast",)
    assert small.reasons == ("bf16 because at width 384 its steps are x1.64 as fast",)


def test_where_bf16_is_emulated_large_models_train_in_fp32_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "bf16_products", lambda threads: 0.4)
    found = settle(replace(RECIPE, model=SMALL), CPU)
    assert found.precision == "fp32"
    assert found.reasons == ("fp32 because this processor multiplies bf16 only x0.40 as fast",)


def test_the_ratio_of_products_is_measured_once_a_process() -> None:
    assert engine.bf16_products(1) > 0.0
    assert engine.bf16_products(1) == engine.bf16_products(1)


@pytest.mark.usefixtures("native")
def test_only_runs_that_are_long_enough_to_gain_are_compiled() -> None:
    """At x1.08 the speed a run of 10 cold starts saves 0.7 of one, a run of 100 saves 7."""
    row = find("engines", Gains, "cpu")
    asks = replace(RECIPE, model=SMALL, precision="bf16", compile="auto")
    flop_per_token = 6 * 12.9e6  # about: 10.6 M in the blocks, 3.1 M in the head, and attention
    second = row.flop_per_s["bf16"] / flop_per_token  # tokens
    short, long = (settle(replace(asks, n_tokens=int(times * row.compile_cold_s * second)), CPU) for times in (10, 100))
    assert (short.compiled, long.compiled) == (False, True)
    assert "not compiled because x1.08 the speed" in short.reasons[0]
    assert long.reasons[0].startswith("compiled because")
    assert long.said().startswith(f"bf16, compiled, {long.rows} sequences at once; compiled because")


def test_experts_are_compiled_only_where_the_recipe_says_so() -> None:
    mixed = replace(RECIPE, model=replace(SMALL, experts=Routing(count=4, active=2)), precision="bf16", n_tokens=10**9)
    found = settle(replace(mixed, compile="auto"), CPU)
    assert not found.compiled
    assert found.reasons == ("not compiled because experts get other numbers of tokens at every step",)
    assert settle(replace(mixed, compile=True), CPU).compiled


def test_what_a_recipe_states_is_taken_as_it_is() -> None:
    stated = settle(replace(RECIPE, model=SMALL, precision="fp32", compile=True, n_tokens=8192), CPU)
    assert (stated.precision, stated.compiled, stated.reasons) == ("fp32", True, ())
    assert stated.rows == 8


@given(st.integers(1, 10_000))
def test_a_gain_lies_between_the_measured_ones(width: int) -> None:
    gains = [(64.0, 0.8), (256.0, 1.6), (128.0, 1.0)]
    assert 0.8 <= at_width(gains, width) <= 1.6
    assert (at_width(gains, 64), at_width(gains, 128), at_width(gains, 9999)) == (0.8, 1.0, 1.6)
    assert at_width([], width) == 1.0


def test_a_run_goes_on_with_what_it_was_begun_with_though_the_table_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the law of the run is the plan of the data and the step of the token\n" * 40
    tokenize(lambda: [Document(f"{i}.txt", text[i:]) for i in range(9)], folder=tmp_path / "shards", vocabulary=270,
             validation_fraction=0.3, source="one sentence")  # fmt: skip
    recipe = replace(
        RECIPE, shards=str(tmp_path / "shards"), model=replace(NANO, vocabulary=270, context=16), batch_tokens=64,
        n_tokens=64 * 12, validation_tokens=64, evaluations=1,
    )  # fmt: skip
    monkeypatch.setattr(engine, "bf16_products", lambda threads: 2.1)
    row = (
        "[engines.cpu]\nbf16_gain = [[64, {gain}]]\nbf16_product_gain = 1.3\n"
        "compile_gain = {{}}\ncompile_cold_s = 9.0\n"
        'flop_per_s = {{ fp32 = 1e10, bf16 = 1e10 }}\nmicro_tokens = 4096\nsource = "planted"\n'
    )
    (tmp_path / "gains.toml").write_text(row.format(gain=1.5))
    monkeypatch.setenv("ISOFLOP_TABLES", str(tmp_path / "gains.toml"))
    events: list[Event] = []
    whole = train(recipe, folder=tmp_path / "whole")
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    with pytest.raises(StoppedError):
        train(recipe, folder=tmp_path / "cut", on_event=events.append, should_stop=stop)
    notes = [event.text for event in events if event.text.startswith("computes in")]
    assert notes == [
        "computes in bf16, not compiled, 4 sequences at once; bf16 because at width 64 its steps are x1.50 as fast"
    ]
    (tmp_path / "gains.toml").write_text(row.format(gain=0.5))
    assert settle(recipe, CPU).precision == "fp32"
    again = train(recipe, folder=tmp_path / "cut")
    assert again.engine == whole.engine == files.read_json(tmp_path / "cut" / store.RUN, Run).engine
    assert again.engine is not None
    assert again.engine.precision == "bf16"
    assert again.loss_nats == whole.loss_nats
