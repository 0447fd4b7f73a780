"""What is computed again is the same, and less is kept for it."""

from typing import get_args

import pytest
import torch
from msgspec.structs import replace

from isoflop.model.build import build
from isoflop.specs.architecture import Decoder
from isoflop.specs.layout import Recompute
from isoflop.train.objectives.causal import causal

MODEL = Decoder(layers=2, width=48, heads=4, kv_heads=2, head_size=12, hidden=128, vocabulary=90, context=24)


def learned(architecture: Decoder, recompute: Recompute) -> tuple[float, list[torch.Tensor]]:
    model = build(architecture, seed=1, recompute=recompute)
    tokens = torch.randint(90, (3, 25), generator=torch.Generator().manual_seed(2))
    loss, _ = causal(model, tokens[:, :-1], tokens[:, 1:], 1e-4)
    torch.autograd.backward(loss)
    return loss.item(), [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("recompute", get_args(Recompute)[1:])
def test_loss_and_gradients_do_not_change(recompute: Recompute, qk_norm: bool) -> None:
    plain, again = (learned(replace(MODEL, qk_norm=qk_norm), how) for how in ("none", recompute))
    assert again[0] == pytest.approx(plain[0], rel=1e-6)
    for a, b in zip(plain[1], again[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def saved(recompute: Recompute) -> int:
    model, kept = build(MODEL, seed=0, recompute=recompute), 0
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if tensor.untyped_storage().data_ptr() in weights else tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.blocks[0](torch.ones(2, 24, 48, requires_grad=True), model.table)
    return kept


def test_a_block_that_is_computed_again_keeps_its_input_and_nothing_else() -> None:
    assert saved("full") < saved("none") / 5


def test_generation_does_not_recompute() -> None:
    model = build(MODEL, seed=0, recompute="full")
    with torch.no_grad():
        out = model(torch.zeros(1, 24, dtype=torch.int64))
    assert out.grad_fn is None
