"""Counting operations against torch's own counter and against published conventions."""

import pytest
import torch
from msgspec.structs import replace
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder

GROUPED = Decoder(layers=3, width=48, heads=4, kv_heads=2, head_size=16, hidden=112, vocabulary=96, context=64)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sequence", [1, 17, 64])
def test_torch_counts_the_same_operations(sequence: int, tied: bool) -> None:
    architecture = replace(GROUPED, tied=tied)
    model = build(architecture, seed=0, device="meta")
    tokens_BT = torch.zeros(2, sequence, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as forward:
        logits = model.logits(model(tokens_BT))
    with FlopCounterMode(display=False) as backward:
        torch.autograd.backward(logits.sum())
    counted = flops_per_token(architecture, sequence=sequence)
    assert forward.get_total_flops() == counted.forward * 2 * sequence
    assert backward.get_total_flops() == counted.backward * 2 * sequence


@pytest.mark.parametrize("early_stop", [True, False])
def test_torch_counts_what_full_recomputation_repeats(early_stop: bool) -> None:
    model = build(GROUPED, seed=0, device="meta")
    x_BTD: torch.Tensor = model.embedding(torch.zeros(2, 17, dtype=torch.long, device="meta"))
    with set_checkpoint_early_stop(early_stop):
        for block in model.blocks:
            x_BTD = checkpoint(block, x_BTD, model.table, use_reentrant=False)
        logits = model.logits(model.norm(x_BTD))
        with FlopCounterMode(display=False) as backward:
            torch.autograd.backward(logits.sum())
    counted = flops_per_token(GROUPED, sequence=17)
    # torch stops before the last product of a block, whose result nobody needs.
    spared = 2 * 3 * 48 * 112 if early_stop else 0
    assert backward.get_total_flops() == (counted.with_recompute("full") - counted.forward - spared) * 2 * 17


@pytest.mark.parametrize("architecture", [GROUPED, replace(GROUPED, tied=False), replace(GROUPED, qk_norm=False)])
def test_parameters_are_those_of_the_built_model(architecture: Decoder) -> None:
    model = build(architecture, seed=0, device="meta")
    assert parameters(architecture).total == sum(weight.numel() for weight in model.parameters())


def test_total_is_six_n_by_the_matmul_convention_and_attention() -> None:
    counted = flops_per_token(GROUPED, sequence=64)
    assert counted.six_n("matmul") == 6.0 * parameters(GROUPED).matmul
    assert counted.total == counted.six_n("matmul") + 3.0 * counted.attention_forward


def test_attention_adds_12_layers_width_sequence_as_in_palm_appendix_b() -> None:
    square = Decoder(layers=5, width=256, heads=8, kv_heads=8, head_size=32, hidden=704, vocabulary=512, context=1024)
    assert 3.0 * flops_per_token(square, sequence=1024).attention_forward == 12 * 5 * 256 * 1024


def test_causal_attention_is_the_lower_triangle() -> None:
    full, causal = (flops_per_token(GROUPED, sequence=64, causal=causal) for causal in (False, True))
    assert causal.attention_forward * 64 == full.attention_forward / 64 * sum(range(1, 65))
    assert causal.matmul_forward == full.matmul_forward


def test_a_sequence_without_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="sequence is 0"):
        flops_per_token(GROUPED, sequence=0)
