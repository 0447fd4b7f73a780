"""Mixtures of experts held against `count`, and against every expert computed for every token."""

import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.data.batch import Batch
from isoflop.data.loader import Loader
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.model.experts import Mixture, at_once, balance, one_by_one
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train.learner import Learner
from isoflop.train.objectives.causal import causal

SMALL = Decoder(
    layers=2, width=16, heads=2, kv_heads=1, head_size=8, hidden=24, vocabulary=50, context=12, tied=False,
    experts=Routing(count=4, active=2, shared=8),
)  # fmt: skip


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    count = draw(st.integers(1, 9))
    return Routing(count=count, active=draw(st.integers(1, count)), shared=draw(st.sampled_from([0, 8, 24])))


def mixture(routing: Routing, seed: int, width: int = 12, hidden: int = 20) -> Mixture:
    torch.manual_seed(seed)
    made = Mixture(width, hidden, routing).double()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return made


@given(routings(), st.booleans())
@settings(max_examples=40)
def test_the_model_has_as_many_parameters_as_counted(routing: Routing, tied: bool) -> None:
    spec = replace(SMALL, experts=routing, tied=tied)
    model = build(spec, seed=0, device="meta")
    assert sum(p.numel() for p in model.parameters()) == parameters(spec).total


@given(routings(), st.integers(0, 100))
@settings(max_examples=20)
def test_torch_counts_the_flop_we_count(routing: Routing, seed: int) -> None:
    """Whatever the router does: no token is dropped and none is padded."""
    spec = replace(SMALL, experts=routing)
    model = build(spec, seed=seed)
    tokens = torch.randint(50, (2, spec.context))
    # Torch's counter does not know the CPU's flash kernel.
    with FlopCounterMode(display=False) as forward, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.logits(model(tokens))
    assert forward.get_total_flops() == flops_per_token(spec, sequence=spec.context).forward * tokens.numel()


def dense(m: Mixture, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
    """Every expert on every token, weighted by the renormalised probabilities of the chosen; and the penalty."""
    x, r = x_BTD.flatten(0, 1), m.routing
    logits = x @ m.router.weight.T
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    kept = torch.zeros_like(p)
    for token in range(len(x)):
        best = sorted(range(r.count), key=lambda e: -p[token, e].item())[: r.active]
        kept[token, best] = 1.0
    weights = p * kept / (p * kept).sum(1, keepdim=True)
    y = torch.zeros_like(x)
    for e in range(r.count):
        gate, up = (x @ m.gate_up[e].T).chunk(2, 1)
        y = y + weights[:, e : e + 1] * ((gate / (1 + torch.exp(-gate)) * up) @ m.down[e].T)
    if m.shared is not None:
        gate, up = (x @ m.shared.gate_up.weight.T).chunk(2, 1)
        y = y + (gate / (1 + torch.exp(-gate)) * up) @ m.shared.down.weight.T
    balanced = r.count * (kept.mean(0) / r.active * p.mean(0)).sum()
    z = torch.log(torch.exp(logits).sum(1)).square().mean()
    return y.view_as(x_BTD), r.balance_loss * balanced + r.router_z_loss * z


@given(routings(), st.integers(0, 10**6))
@settings(max_examples=25)
def test_output_penalty_and_gradients_equal_every_expert_on_every_token(routing: Routing, seed: int) -> None:
    m = mixture(replace(routing, balance_loss=0.7, router_z_loss=0.3), seed)
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(2, 7, 12, dtype=torch.float64)
    wanted = [x, *m.parameters()]
    y = m(x)
    ours = torch.autograd.grad((y * pull).sum() + m.penalty, wanted)
    plain, penalty = dense(m, x)
    theirs = torch.autograd.grad((plain * pull).sum() + penalty, wanted)
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(m.penalty, penalty)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_one_expert_is_the_dense_model() -> None:
    one = build(replace(SMALL, experts=Routing(count=1, active=1)), seed=1)
    plain = build(replace(SMALL, experts=None), seed=2)
    weights = {name: value for name, value in one.state_dict().items() if "router" not in name}
    for layer in range(SMALL.layers):
        for part in ("gate_up", "down"):
            weights[f"blocks.{layer}.mlp.{part}.weight"] = weights.pop(f"blocks.{layer}.mlp.{part}")[0]
    plain.load_state_dict(weights)
    tokens = torch.randint(50, (3, 12))
    torch.testing.assert_close(one(tokens), plain(tokens))


@pytest.mark.parametrize("chosen", [[3, 0, 5, 2], [0, 0, 0, 10], [4, 4, 1, 1]])
def test_grouped_products_equal_one_expert_after_the_other(chosen: list[int]) -> None:
    torch.manual_seed(0)
    x, gate_up, down = torch.randn(10, 16), torch.randn(4, 48, 16), torch.randn(4, 16, 24)
    inputs = [t.requires_grad_() for t in (x, gate_up, down)]
    found = []
    for way in (one_by_one, at_once):
        y = way(inputs[0], inputs[1], inputs[2], torch.tensor(chosen))
        found.append([y, *torch.autograd.grad((y * torch.arange(16.0)).sum(), inputs)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_balance_is_1_where_all_are_alike_and_the_number_of_experts_where_one_takes_all() -> None:
    assert balance(torch.zeros(64, 8), torch.full((8,), 16)).item() == pytest.approx(1.0)
    one = torch.zeros(64, 8)
    one[:, 3] = 50.0
    assert balance(one, torch.tensor([0, 0, 0, 64, 0, 0, 0, 0])).item() == pytest.approx(8.0)


@pytest.mark.parametrize("loss_head", ["chunked", "eager"])
def test_the_loss_holds_every_blocks_penalty_and_the_nats_hold_none(loss_head: str) -> None:
    model, free = (
        build(replace(SMALL, experts=Routing(count=4, active=2, balance_loss=w, router_z_loss=w)), seed=0)
        for w in (0.5, 0.0)
    )
    tokens = torch.randint(50, (3, 13))
    loss, nats = causal(model, tokens[:, :-1], tokens[:, 1:], 0.0, loss_head)  # type: ignore[arg-type]
    alone, same = causal(free, tokens[:, :-1], tokens[:, 1:], 0.0, loss_head)  # type: ignore[arg-type]
    assert nats.item() == same.item()
    penalties = sum(m.penalty.item() for m in model.mixtures)
    assert len(model.mixtures) == SMALL.layers
    assert loss.item() - alone.item() == pytest.approx(penalties, rel=1e-5)


def test_recomputation_changes_no_gradient() -> None:
    tokens = torch.randint(50, (3, 13), generator=torch.Generator().manual_seed(0))
    found = []
    for recompute in ("none", "full"):
        model = build(SMALL, seed=0, recompute=recompute)
        torch.autograd.backward(causal(model, tokens[:, :-1], tokens[:, 1:], 1e-4)[0])
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True) if a is not None and b is not None)
    assert not any(gradient is None for gradients in found for gradient in gradients)


def test_no_token_sees_a_later_one() -> None:
    model = build(SMALL, seed=0)
    tokens = torch.randint(50, (1, 12))
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 50
    torch.testing.assert_close(model(tokens)[:, :6], model(changed)[:, :6])


def test_a_sweep_of_sizes_says_that_it_counts_no_experts() -> None:
    from isoflop.count.arrays import sweep

    with pytest.raises(UsageError, match="mixtures of experts are counted one by one"):
        sweep(SMALL, sequence=12, width=[16, 32])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_python_and_keeps_its_experts_busy(precision: str) -> None:
    text = Path(sysconfig.get_paths()["stdlib"], "argparse.py").read_bytes()
    spec = Decoder(
        layers=2, width=32, heads=2, kv_heads=1, head_size=16, hidden=48, vocabulary=256, context=64,
        experts=Routing(count=4, active=2, shared=16),
    )  # fmt: skip
    recipe = Recipe(
        name="moe", shards="", model=spec, n_tokens=50 * 512, batch_tokens=512, precision=precision, device="cpu",  # type: ignore[arg-type]
        optimizer=Optimizer(learning_rate=1e-2),
    )  # fmt: skip
    learner = Learner(recipe, peak_learning_rate=1e-2)
    loader = Loader(np.frombuffer(text, dtype=np.uint8), context=64, sequences=8, seed=0)
    batches = (Batch(inputs_ST=inputs, targets_SU=targets) for inputs, targets in map(loader.batch, range(50)))
    nats = [learner.step(step, batch).loss_nats for step, batch in enumerate(batches)]
    assert np.mean(nats[:3]) > 5.0
    counts = np.bincount(np.frombuffer(text, dtype=np.uint8))
    frequency = counts[counts > 0] / len(text)
    assert np.mean(nats[-5:]) < -(frequency * np.log(frequency)).sum()  # it knows more than how often a byte occurs
    for block in learner.model.mixtures:
        share = block.chosen_E / block.chosen_E.sum()
        assert share.min() > 0.5 / 4
        assert share.max() < 2 / 4
