"""The fused head against torch's own cross-entropy, with a bias and what stands before it, and without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, linear

from isoflop.data.corrupt import NOTHING
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder
from isoflop.specs.layout import LossHead
from isoflop.train.head_loss import HeadLoss
from isoflop.train.objectives.causal import causal


def _model(vocabulary: int, *, tied: bool) -> Decoder:
    return Decoder(
        layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=24, vocabulary=vocabulary, context=8, tied=tied
    )


@given(st.integers(2, 90), st.booleans(), st.sampled_from([0.0, 1e-5, 0.3]), st.integers(1, 5), st.integers(1, 400))
@settings(max_examples=15, deadline=None)
def test_loss_and_gradients_equal_plain_cross_entropy(
    vocabulary: int, tied: bool, z_loss: float, sequences: int, chunk: int
) -> None:
    torch.manual_seed(vocabulary)
    model = build(_model(vocabulary, tied=tied), seed=0).double()
    tokens = torch.randint(vocabulary, (sequences, 9))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    loss, nats = causal(model, inputs, targets, z_loss, chunk_elements=chunk)
    torch.autograd.backward(3 * loss)
    ours = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    logits = model.logits(model(inputs)).flatten(0, 1)
    plain = cross_entropy(logits, targets.flatten())
    torch.autograd.backward(3 * (plain + z_loss * logits.logsumexp(-1).square().mean()))
    torch.testing.assert_close(nats.double(), plain.detach(), rtol=1e-5, atol=1e-6)
    theirs = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(ours) == len(list(model.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_without_gradients_the_loss_is_the_same() -> None:
    model = build(_model(40, tied=True), seed=0)
    tokens = torch.randint(40, (3, 9))
    _, nats = causal(model, tokens[:, :-1], tokens[:, 1:], 1e-5)
    with torch.no_grad():
        loss, alone = causal(model, tokens[:, :-1], tokens[:, 1:], 0.0)
    assert nats.item() == alone.item() == loss.item()


@pytest.mark.parametrize("z_loss", [0.0, 1e-4])
def test_whole_logits_give_the_same_loss_and_gradients_as_chunks(z_loss: float) -> None:
    tokens = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(0))
    found = []
    for head in ("chunked", "eager"):
        model = build(_model(40, tied=True), seed=0)
        loss, nats = causal(model, tokens[:, :-1], tokens[:, 1:], z_loss, head)
        torch.autograd.backward(loss)
        found.append(
            [loss.detach().double(), nats.double(), *(p.grad for p in model.parameters() if p.grad is not None)]
        )
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@given(st.integers(1, 60), st.sampled_from([0.0, 0.3]), st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_what_is_not_to_be_said_has_no_part_in_loss_or_gradient(chunk: int, z_loss: float, share: float) -> None:
    random = torch.Generator().manual_seed(chunk)
    model = build(_model(40, tied=False), seed=0).double()
    inputs, targets = torch.randint(40, (2, 3, 8), generator=random)
    targets[torch.rand(3, 8, generator=random) > share] = NOTHING
    loss, nats = HeadLoss(z_loss=z_loss, chunk_elements=chunk).chosen(model, model(inputs), targets)
    torch.autograd.backward(loss)
    ours = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    said = targets != NOTHING
    if not said.any():
        assert loss.item() == nats.item() == 0.0
        assert not any(gradient.any() for gradient in ours)
        return
    model.zero_grad()
    logits = model.logits(model(inputs)).flatten(0, 1)
    plain = cross_entropy(logits, targets.flatten())  # passes over NOTHING by torch's own default
    torch.autograd.backward(plain + z_loss * logits[said.flatten()].logsumexp(-1).square().mean())
    torch.testing.assert_close(nats.double(), plain.detach(), rtol=1e-5, atol=1e-6)
    for a, b in zip(ours, (p.grad for p in model.parameters()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


class _Biased(nn.Module):
    """A head with a bias and a transform before it, as an encoder has them."""

    def __init__(self) -> None:
        super().__init__()
        self.head_weight = nn.Parameter(torch.randn(40, 16))
        self.head_bias = nn.Parameter(torch.randn(40))
        self.transform = nn.Linear(16, 16)

    def before_head(self, x_ND: torch.Tensor) -> torch.Tensor:
        return self.transform(x_ND).tanh()  # type: ignore[no-any-return]


@pytest.mark.parametrize("loss_head", ["chunked", "eager"])
@given(st.integers(1, 200), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=10, deadline=None)
def test_a_head_with_a_bias_and_a_transform_has_the_gradients_of_plain_cross_entropy(
    loss_head: LossHead, chunk: int, z_loss: float, share: float
) -> None:
    torch.manual_seed(chunk)
    # Whole logits are fp32 from there on.
    kind = torch.float64 if loss_head == "chunked" else torch.float32
    head, x_BTD = _Biased().to(kind), torch.randn(3, 8, 16, dtype=kind, requires_grad=True)
    targets = torch.randint(40, (3, 8)).where(torch.rand(3, 8) < share, NOTHING)
    leaves = [x_BTD, *head.parameters()]
    how = HeadLoss(z_loss=z_loss, loss_head=loss_head, chunk_elements=chunk)
    loss, nats = how.chosen(head, x_BTD, targets)
    ours = torch.autograd.grad(loss, leaves)
    said = targets.flatten() != NOTHING
    if not said.any():
        assert loss.item() == nats.item() == 0
        assert not any(gradient.any() for gradient in ours)
        return
    logits = linear(head.before_head(x_BTD.flatten(0, 1)), head.head_weight, head.head_bias)
    plain = cross_entropy(logits, targets.flatten())
    theirs = torch.autograd.grad(plain + z_loss * logits[said].logsumexp(-1).square().mean(), leaves)
    torch.testing.assert_close(nats.to(kind), plain.detach(), rtol=1e-5, atol=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
