"""Memory against ZeRO's table, Korthikanti's, what autograd really saves, and measured peaks."""

import csv
from pathlib import Path
from typing import Any, Protocol, get_args

import pytest
import torch
from msgspec.structs import replace
from scipy.stats import t
from torch.utils.flop_counter import FlopCounterMode

from isoflop import count
from isoflop.count.memory_activations import gpt_block_bytes, interleaved, of_block
from isoflop.count.memory_kinds import kinds
from isoflop.count.memory_margin import fit, margin
from isoflop.count.memory_peak import PARTS, memory
from isoflop.count.memory_states import states
from isoflop.errors import UsageError
from isoflop.model.decoder import Block
from isoflop.model.rotary import rotary_table
from isoflop.specs.architecture import Decoder
from isoflop.specs.layout import Layout, Recompute, Sharding, Training
from isoflop.specs.transformer import MLP, Attention, Transformer
from isoflop.tables import named

SMALL = Decoder(layers=3, width=192, heads=8, kv_heads=4, head_size=32, hidden=448, vocabulary=512, context=128)
ONE = Layout(sharding="ddp", recompute="none", devices=1, micro_batch=1, sequence=128)
PSI = {"7.5B": 7.5e9, "128B": 128e9, "1T": 1e12}


def test_zero_table_1_is_reproduced(shared_data: Path) -> None:
    with (shared_data / "plan" / "zero_model_states.csv").open() as source:
        table = list(csv.DictReader(source))
    assert len(table) == 18
    for row in table:
        for sharding, column in zip(get_args(Sharding), ("ddp", "stage1", "stage2", "stage3"), strict=True):
            bytes_ = states(PSI[row["model"]], sharding=sharding, devices=int(row["dp"])).total_bytes
            printed = float(row[f"{column}_gb"])
            assert bytes_ / 1e9 == pytest.approx(printed, abs=0.006), (row["model"], row["dp"], sharding)


def test_175_billion_parameters_at_16_bytes_are_2800_gb() -> None:
    assert states(175e9, sharding="ddp", devices=1).total_bytes == 2800e9


def test_a_billion_parameters_need_16_gb_to_train_and_not_80() -> None:
    assert states(1e9, sharding="ddp", devices=1).total_bytes == 16e9
    assert states(500e9, sharding="ddp", devices=1).total_bytes == 8000e9


def test_zero_saves_less_than_its_limits_on_64_devices() -> None:
    whole = states(7.5e9, sharding="ddp", devices=64).total_bytes
    assert whole / states(7.5e9, sharding="zero1", devices=64).total_bytes == pytest.approx(3.82, abs=0.005)
    assert whole / states(7.5e9, sharding="zero2", devices=64).total_bytes == pytest.approx(7.21, abs=0.005)


FORMULAS: dict[str, dict[str, Any]] = {
    "no parallelism": {"tensor": 1},
    "TP t": {},
    "TP+SP": {"sequence_parallel": True},
    "TP + selective": {"recompute": "selective"},
    "TP+SP+selective": {"sequence_parallel": True, "recompute": "selective"},
    "full recompute": {"recompute": "full"},
}


def test_korthikantis_formulas_are_reproduced(shared_data: Path) -> None:
    letters = {"s": 2048, "b": 4, "h": 6144, "a": 64, "t": 8}
    with (shared_data / "plan" / "korthikanti_formulas.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert {row["case"] for row in rows} == set(FORMULAS)
    for row in rows:
        printed = eval(row["bytes_per_layer"], {"__builtins__": {}}, letters)
        how: dict[str, Any] = {"tensor": 8, **FORMULAS[row["case"]]}
        ours = gpt_block_bytes(sequence=2048, micro_batch=4, width=6144, heads=64, **how)
        assert ours == pytest.approx(printed, rel=1e-12), row["case"]


# Table 3 of the paper: heads, width, layers, tensor, pipeline, virtual stages, micro-batch; 2,048 tokens.
KORTHIKANTI = {
    "megatron-22B": (64, 6144, 48, 8, 1, 1, 4),
    "gpt3-175B": (96, 12288, 96, 8, 8, 3, 1),
    "turing-530B": (128, 20480, 105, 8, 35, 3, 1),
    "megatron-1T": (160, 25600, 128, 8, 64, 1, 1),
}


def test_korthikantis_memory_per_gpu_is_reproduced(shared_data: Path) -> None:
    with (shared_data / "plan" / "korthikanti_memory.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert rows
    for row in rows:
        heads, width, layers, tensor, stages, virtual, batch = KORTHIKANTI[row["model"]]
        depth = layers * interleaved(pipeline=stages, virtual_stages=virtual)
        one: dict[str, Any] = {"sequence": 2048, "micro_batch": batch, "width": width, "heads": heads, "tensor": tensor}
        none = depth * gpt_block_bytes(**one)
        least = depth * gpt_block_bytes(**one, sequence_parallel=True, recompute="selective")
        # 18 bytes a parameter of the blocks: Megatron sums gradients in fp32, 2 + 4 + 12.
        owned = 18 * 12 * layers * width**2 / (tensor * stages)
        assert none / 2**30 == pytest.approx(float(row["act_none_gib"]), rel=1e-12), row["model"]
        assert least / 2**30 == pytest.approx(float(row["act_selective_sp_gib"]), rel=1e-12), row["model"]
        assert owned / 2**30 == pytest.approx(float(row["params_and_opt_gib"]), rel=2e-3), row["model"]


def saved_by_autograd(architecture: Decoder, *, batch: int, recompute: Recompute) -> int:
    """Bytes that one block of the real model keeps for its backward pass, each storage once, weights left out."""
    block = Block(architecture, recompute).to(torch.bfloat16)
    table = rotary_table(architecture.context, architecture.head_size, architecture.rope_theta)
    with torch.no_grad():
        for weight in block.parameters():
            weight.fill_(0.01)
    x_BTD = torch.ones(batch, architecture.context, architecture.width, dtype=torch.bfloat16, requires_grad=True)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*block.parameters(), table)}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    # Counted as a GPU has it: under a counter, blocks on a CPU are the same plain operations.
    with FlopCounterMode(display=False), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(x_BTD, table)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("kv_heads", [8, 4, 1])
def test_a_block_keeps_what_autograd_saves(kv_heads: int, qk_norm: bool) -> None:
    one = replace(SMALL, layers=1, kv_heads=kv_heads, qk_norm=qk_norm)
    n_tokens = 2 * one.context
    normed = one.heads + kv_heads if qk_norm else 0
    gains = 2 * normed * one.head_size  # one copy of the QK-norm's gain by head, whatever the tokens
    kept = of_block(one.transformer().decoder[0], one.width).whole
    wide = 2 * (kept.residual + kept.stream + kept.inner) + 4 * (kept.inner_fp32 + kept.stream_fp32)
    narrow_means = 2 * (2 + normed)  # on CPU the root mean squares are bf16
    assert saved_by_autograd(one, batch=2, recompute="none") == n_tokens * (wide - narrow_means) + gains


@pytest.mark.parametrize("model", ["gpt2", "t5-small"])
def test_queries_are_kept_once_where_positions_do_not_turn_them(model: str) -> None:
    parts = named.model(model).architecture
    assert isinstance(parts, Transformer)
    for kind, block in zip(kinds(parts), parts.blocks, strict=True):
        a, crossing = block.attention, 2 if block.cross else 1
        assert isinstance(a, Attention)
        assert isinstance(block.mlp, MLP)
        assert kind.activations.whole.inner == crossing * 4 * a.heads * a.head_size + 2 * block.mlp.hidden


def test_recomputation_trades_memory_in_order() -> None:
    layout = replace(ONE, micro_batch=64)
    found = [memory(SMALL, replace(layout, recompute=how)).total_bytes for how in get_args(Recompute)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 3


def test_the_loss_head_of_llama_3_8b_takes_23_5_gib() -> None:
    llama = named.model("llama3-8b").architecture
    layout = replace(ONE, micro_batch=2, sequence=8192)
    assert memory(llama, layout).parts["loss_head"] / 2**30 == pytest.approx(23.5, abs=0.05)


class Peak(Protocol):
    """A measured one: what was laid out, and the bytes its device reserved."""

    architecture: Decoder
    layout: Layout
    training: Training
    bytes: float


def held_ratios(measured: list[Peak]) -> list[float]:
    """Measured bytes over tensors and holes, for every published peak."""
    share = margin().share
    return [row.bytes * (1 + share) / memory(row.architecture, row.layout, row.training).total_bytes
            for row in measured]  # fmt: skip


def test_the_margin_is_the_one_fitted_to_the_published_peaks(measured: list[Peak]) -> None:
    ratios, row = held_ratios(measured), margin()
    assert len(ratios) == row.rows
    assert fit(ratios, quantile=t.ppf(0.975, len(ratios) - 1)) == pytest.approx((row.share, row.lo, row.hi), abs=1e-4)


def test_every_published_peak_lies_where_the_others_say(measured: list[Peak]) -> None:
    """One left out, the margin fitted again: inside its interval, and the estimate within 7 %."""
    ratios = held_ratios(measured)
    for i, ratio in enumerate(ratios):
        others = ratios[:i] + ratios[i + 1 :]
        share, lo, hi = fit(others, quantile=t.ppf(0.975, len(others) - 1))
        assert 1 + lo <= ratio <= 1 + hi
        assert (1 + share) / ratio == pytest.approx(1, abs=0.07)


def test_measured_peaks_lie_in_the_stated_interval(measured: list[Peak]) -> None:
    for row in measured:
        found = memory(row.architecture, row.layout, row.training)
        assert found.lo_bytes <= row.bytes <= found.hi_bytes


def test_the_breakdown_adds_up() -> None:
    found = memory(SMALL, Layout(sharding="zero3", recompute="none", devices=8, micro_batch=4, sequence=128))
    assert tuple(found.breakdown()) == (*PARTS, "margin")
    assert sum(found.breakdown().values()) == pytest.approx(found.total_bytes)
    assert found.lo_bytes < found.total_bytes < found.hi_bytes


def test_a_sequence_beyond_the_learned_positions_is_refused() -> None:
    with pytest.raises(UsageError, match="longer than the model's context 1024"):
        memory(named.model("gpt2").architecture, replace(ONE, sequence=1025))


def test_eight_bit_states_are_a_quarter_and_a_momentum_is_half() -> None:
    adamw, narrow, sgd = (
        states(1e9, sharding="ddp", devices=1, optimizer=name).optimizer_bytes
        for name in ("adamw", "adamw-8bit", "sgd")
    )
    assert narrow / adamw == pytest.approx(0.25, abs=0.01)
    assert sgd == adamw / 2


def test_muon_keeps_one_momentum_of_matrices_and_adamws_two_of_the_rest() -> None:
    counted = count.parameters(SMALL)
    rest = counted.embedding + counted.norm
    found = memory(SMALL, ONE, Training(optimizer="muon")).parts["optimizer"]
    assert found == 4 * (counted.total - rest) + 8 * rest


def test_adapters_leave_the_model_frozen_in_two_bytes_and_train_rows_and_columns() -> None:
    """LoRA, sec. 4.2 and table 1 of its paper: r (rows + columns) for every matrix."""
    counted, D, HS, KS, F = count.parameters(SMALL), 192, 256, 128, 448
    adapters = 16 * SMALL.layers * (2 * (D + HS) + 2 * (D + KS) + 3 * (D + F))
    found = memory(SMALL, ONE, Training(adapter_rank=16))
    assert found.parts["optimizer"] == 8 * adapters
    assert found.parts["weights"] == 2 * counted.total + 4 * adapters
    one_byte = memory(SMALL, ONE, Training(adapter_rank=16, precision="int8")).parts["weights"]
    assert found.parts["weights"] - one_byte == counted.total


def test_llama_3_8b_in_int8_with_adapters_trains_on_a_card_of_24_gb() -> None:
    """In 16 bit the weights alone take 16 GB, and training all of them 128 GB."""
    llama = named.model("llama3-8b").architecture
    layout = replace(ONE, recompute="full", sequence=2048)
    chunked = Training(loss_head="chunked")
    two = memory(llama, layout, replace(chunked, adapter_rank=16))
    one_byte = memory(llama, layout, replace(chunked, adapter_rank=16, precision="int8"))
    whole = memory(llama, layout, chunked)
    assert one_byte.total_bytes < 24e9
    assert two.total_bytes - one_byte.total_bytes == pytest.approx(8e9, rel=0.1)
    assert whole.total_bytes > 128e9


def test_preferences_need_a_reference_and_ppo_four_models() -> None:
    n_params = count.parameters(SMALL).total
    sft, dpo, ppo = (memory(SMALL, ONE, Training(method=method)) for method in ("sft", "dpo", "ppo"))
    assert sft.parts["other_models"] == 0
    assert dpo.parts["other_models"] == 2 * n_params  # the frozen reference
    assert ppo.parts["other_models"] == (2 + 2 + 12) * n_params  # reference, reward model, the critic with its state
    assert memory(SMALL, ONE, Training(method="dpo", adapter_rank=8)).parts["other_models"] == 0


def test_a_pair_of_answers_is_two_sequences() -> None:
    pair, two = memory(SMALL, ONE, Training(method="dpo")), memory(SMALL, replace(ONE, micro_batch=2))
    assert pair.parts["activations"] == two.parts["activations"]


@pytest.mark.parametrize(
    ("model", "kb"),
    [("llama3-8b", 128.0), ("llama2-70b", 320.0), ("deepseek-v3", 68.625), ("gpt2", 36.0)],
)
def test_the_cache_of_a_token_is_as_published(model: str, kb: float) -> None:
    """2 K S bf16 numbers a layer; DeepSeek-V3's report (arXiv:2412.19437) has 576 numbers in each of 61 layers."""
    llama = named.model(model).architecture
    layout = replace(ONE, sequence=1024, micro_batch=3)
    found = memory(llama, layout, Training(method="inference"))
    assert found.parts["kv_cache"] / (3 * 1024) == kb * 1024
    assert found.parts["gradients"] == found.parts["optimizer"] == 0


def test_generation_needs_no_more_than_weights_cache_and_a_little() -> None:
    llama = named.model("llama3-8b").architecture
    found = memory(llama, replace(ONE, sequence=8192), Training(method="inference"))
    assert found.parts["weights"] == 2 * 8030261248
    assert found.tensors_bytes < 1.15 * (found.parts["weights"] + found.parts["kv_cache"])


def test_tensor_and_pipeline_parallelism_share_the_weights() -> None:
    llama = named.model("llama3-70b").architecture
    base = Layout(sharding="zero1", recompute="full", devices=1, micro_batch=1, sequence=4096)
    for tensor, pipeline in ((8, 1), (1, 4), (8, 4)):
        found = memory(llama, replace(base, devices=tensor * pipeline, tensor=tensor, pipeline=pipeline))
        shared = 2 * count.parameters(llama).total / (tensor * pipeline)
        assert found.parts["weights"] == pytest.approx(shared, rel=0.05)  # an end of the pipeline has more


def test_expert_parallelism_shares_the_experts_alone() -> None:
    mixtral = named.model("mixtral-8x7b").architecture
    base = Layout(sharding="zero1", recompute="full", devices=8, micro_batch=1, sequence=4096)
    alone, shared = (memory(mixtral, replace(base, expert=expert)).parts["weights"] for expert in (1, 8))
    experts = 32 * 8 * 3 * 4096 * 14336
    assert alone - shared == pytest.approx(2 * experts * 7 / 8, rel=1e-9)


def test_context_parallelism_shares_the_sequence() -> None:
    llama = replace(named.model("llama3-8b").architecture, context=2**17)
    base = Layout(sharding="zero3", recompute="full", devices=8, micro_batch=1, sequence=2**17)
    one, eight = (memory(llama, replace(base, context=context)) for context in (1, 8))
    assert one.parts["activations"] == pytest.approx(8 * eight.parts["activations"], rel=1e-6)
    assert one.parts["loss_head"] == pytest.approx(8 * eight.parts["loss_head"], rel=1e-6)
    assert one.parts["weights"] == eight.parts["weights"]  # FSDP spreads over context ranks too


@pytest.mark.parametrize("model", ["t5-large", "bert-base-uncased", "deepseek-v3", "falcon-7b", "gpt2", "bloom-176b"])
def test_any_transformer_has_a_memory(model: str) -> None:
    architecture = named.model(model).architecture
    layout = Layout(sharding="zero3", recompute="selective", devices=64, micro_batch=1, sequence=512)
    found = memory(architecture, layout)
    assert found.parts["weights"] == pytest.approx(4 * count.parameters(architecture).total / 64)
    assert all(part >= 0 for part in found.parts.values())
    assert found.parts["activations"] > 0
