"""Gradients written out, held against finite differences and against what autograd makes of plain operations."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu
from torch.utils.flop_counter import FlopCounterMode

from isoflop.model.attention import Attention
from isoflop.model.build import build
from isoflop.model.gradients import by_hand, gated, turned
from isoflop.model.layers import normalise
from isoflop.model.rotary import rotary_table, rotate
from isoflop.specs.architecture import Decoder
from isoflop.specs.rotary import Yarn

CPU = torch.device("cpu")
HEADS, SIZE = (4, 2), 8
GROUPED = Decoder(
    layers=2, width=24, heads=4, kv_heads=2, head_size=8, hidden=40, vocabulary=50, context=12, qk_norm=True,
    rope_scaling=Yarn(factor=2.0, original_context=6),
)  # fmt: skip


def placed(x: Tensor, weight: Tensor, table: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The same by torch's operations."""
    qkv = (x @ weight.T).view(*x.shape[:2], -1, SIZE)
    qk, v = qkv.split_with_sizes((sum(HEADS), HEADS[1]), dim=2)
    q, k = rotate(qk if gain is None else normalise(qk, gain, 1e-6), table).split_with_sizes(HEADS, dim=2)
    return q, k, v


def assert_same(ours: Tensor, theirs: Tensor, inputs: tuple[Tensor, ...]) -> None:
    """Values, and gradients of a sum that weighs each value otherwise."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = torch.randn(ours.shape)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs), torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("with_gelu", [False, True])
def test_a_gated_product_has_the_slopes_of_finite_differences(with_gelu: bool) -> None:
    x, weight = torch.randn(2, 3, 4).double().requires_grad_(), torch.randn(10, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, weight: gated(x, weight, with_gelu=with_gelu), (x, weight))
    gate, up = (x @ weight.T).chunk(2, dim=-1)
    active = gelu(gate, approximate="tanh") if with_gelu else silu(gate)
    torch.testing.assert_close(gated(x, weight, with_gelu=with_gelu), active * up)


@pytest.mark.parametrize("normalised", [False, True])
def test_queries_keys_and_values_have_the_slopes_of_finite_differences(normalised: bool) -> None:
    x, weight = torch.randn(2, 3, 4).double().requires_grad_(), torch.randn(8 * SIZE, 4).double().requires_grad_()
    gain = torch.randn(sum(HEADS), SIZE).double().requires_grad_() if normalised else None
    angle = torch.randn(3, 1, SIZE // 2).double()
    turn = torch.polar(torch.ones_like(angle), angle)
    inputs = (x, weight) if gain is None else (x, weight, gain)
    assert torch.autograd.gradcheck(
        lambda x, weight, gain=None: turned(x, weight, turn, gain, epsilon=1e-6, heads=HEADS), inputs
    )


@pytest.mark.parametrize("normalised", [False, True])
def test_queries_keys_and_values_are_those_of_plain_operations(normalised: bool) -> None:
    x, weight = torch.randn(2, 5, 16).requires_grad_(), torch.randn(8 * SIZE, 16).requires_grad_()
    gain = torch.randn(sum(HEADS), SIZE).requires_grad_() if normalised else None
    table = rotary_table(5, SIZE, 10_000.0)
    turn = torch.view_as_complex(table)[:, None]
    ours = turned(x, weight, turn, gain, epsilon=1e-6, heads=HEADS)
    theirs = placed(x, weight, table, gain)
    inputs = (x, weight) if gain is None else (x, weight, gain)
    # Through what attention does with them, so that slopes come transposed, as they do there.
    mine, other = (torch.cat([part.transpose(1, 2).flatten() for part in parts]) for parts in (ours, theirs))
    assert_same(mine, other, inputs)


def test_in_16_bit_a_block_is_as_near_to_fp32_as_with_plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(GROUPED, seed=0, device=CPU, recompute="none")
    tokens = torch.randint(50, (3, 12))

    def slopes(kind: torch.dtype | None) -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
            model(tokens).square().mean().backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

    exact = slopes(None)
    ours = slopes(torch.bfloat16)
    for place in ("attention", "layers"):
        monkeypatch.setattr(f"isoflop.model.{place}.by_hand", lambda x, weight: False)
    torch.testing.assert_close(slopes(None), exact, rtol=1e-4, atol=1e-6)
    theirs = slopes(torch.bfloat16)
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm()
    assert (theirs - exact).norm() > 1e-4 * exact.norm()  # or nothing was asked


def test_who_looks_at_each_operation_sees_plain_ones() -> None:
    attention = Attention(GROUPED)
    x = torch.randn(1, 12, 24)
    assert by_hand(x, attention.qkv.weight)
    with FlopCounterMode(display=False):
        assert not by_hand(x, attention.qkv.weight)
    seen: list[bool] = []

    def compiled(x: Tensor) -> Tensor:
        seen.append(by_hand(x, attention.qkv.weight))
        return x + 1

    torch.compile(compiled, backend="eager", fullgraph=False)(x)
    assert seen == [False]
