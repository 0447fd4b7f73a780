"""The decoder held against the closed forms of `count` and against an independent implementation by plain einsum."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.model.build import build
from isoflop.model.layers import normalise
from isoflop.model.rotary import rotary_table, rotate
from isoflop.specs.architecture import Decoder
from isoflop.train.objectives.causal import causal


@st.composite
def architectures(draw: st.DrawFn) -> Decoder:
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return Decoder(
        layers=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 6)) * 8,
        heads=kv_heads * groups,
        kv_heads=kv_heads,
        head_size=draw(st.integers(1, 6)) * 2,
        hidden=draw(st.integers(1, 70)),
        vocabulary=draw(st.integers(2, 300)),
        context=draw(st.integers(1, 24)),
        tied=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
    )


SMALL = Decoder(layers=2, width=24, heads=4, kv_heads=2, head_size=6, hidden=40, vocabulary=50, context=12, tied=False)


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_the_model_has_as_many_parameters_as_counted(architecture: Decoder) -> None:
    model = build(architecture, seed=0, device="meta")
    assert sum(p.numel() for p in model.parameters()) == parameters(architecture).total


@given(architectures())
@settings(max_examples=25, deadline=None)
def test_torch_counts_the_flop_we_count(architecture: Decoder) -> None:
    model = build(architecture, seed=0, device="meta")
    tokens = torch.zeros(2, architecture.context, dtype=torch.long, device="meta")
    counted = flops_per_token(architecture, sequence=architecture.context)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model.logits(model(tokens))
    assert forward.get_total_flops() == counted.forward * tokens.numel()
    with FlopCounterMode(display=False) as both:
        torch.autograd.backward(model.logits(model(tokens)).sum())
    assert both.get_total_flops() == counted.total * tokens.numel()


@given(architectures(), st.integers(0, 2**31), st.data())
@settings(max_examples=25, deadline=None)
def test_no_token_sees_a_later_one(architecture: Decoder, seed: int, data: st.DataObject) -> None:
    model = build(architecture, seed=seed)
    at = data.draw(st.integers(0, architecture.context - 1))
    tokens = torch.randint(architecture.vocabulary, (1, architecture.context))
    changed = tokens.clone()
    changed[:, at:] = (changed[:, at:] + 1) % architecture.vocabulary
    with torch.no_grad():
        assert torch.equal(model(tokens)[:, :at], model(changed)[:, :at])


def test_the_same_seed_builds_the_same_weights_whatever_was_drawn_before() -> None:
    first = build(SMALL, seed=3)
    torch.rand(7)
    again, other = build(SMALL, seed=3), build(SMALL, seed=4)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_a_fresh_model_knows_nothing_and_is_half_a_nat_from_uniform() -> None:
    # Its logits are normal with variance 1 (a hidden state of length sqrt(D) on rows of length 1), whose log-sum-exp is
    # ln V + 1/2, and the target's own logit is 0 on average.
    big = Decoder(layers=2, width=64, heads=2, kv_heads=1, head_size=32, hidden=192, vocabulary=512, context=64)
    tokens = torch.randint(512, (4, 65), generator=torch.Generator().manual_seed(0))
    _, nats = causal(build(big, seed=0), tokens[:, :-1], tokens[:, 1:], 0.0)
    assert nats.item() == pytest.approx(math.log(512) + 0.5, abs=0.15)


def _reference(architecture: Decoder, weights: dict[str, Tensor], tokens_BT: Tensor) -> Tensor:
    """The decoder once more: explicit heads and masks, positions as sines and cosines of pairs."""
    a, group = architecture, architecture.heads // architecture.kv_heads

    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + a.norm_epsilon).sqrt() * gain

    def turn(x_BTS: Tensor) -> Tensor:
        out = torch.empty_like(x_BTS)
        for t in range(x_BTS.shape[1]):
            for i in range(a.head_size // 2):
                angle = t * a.rope_theta ** (-2 * i / a.head_size)
                left, right = x_BTS[:, t, 2 * i], x_BTS[:, t, 2 * i + 1]
                out[:, t, 2 * i] = left * math.cos(angle) - right * math.sin(angle)
                out[:, t, 2 * i + 1] = left * math.sin(angle) + right * math.cos(angle)
        return out

    x = weights["embedding.weight"][tokens_BT]
    T, S, H, K = tokens_BT.shape[1], a.head_size, a.heads, a.kv_heads
    visible = torch.ones(T, T, dtype=torch.bool).tril()
    for layer in range(a.layers):
        w = {n.removeprefix(f"blocks.{layer}."): v for n, v in weights.items() if n.startswith(f"blocks.{layer}.")}
        h = norm(x, w["attention_norm.weight"])
        q_rows, k_rows, v_rows = w["attention.qkv.weight"].tensor_split((H * S, (H + K) * S))
        heads = []
        for index in range(H):
            kv = index // group
            q = torch.einsum("btd,sd->bts", h, q_rows[index * S : (index + 1) * S])
            k = torch.einsum("btd,sd->bts", h, k_rows[kv * S : (kv + 1) * S])
            v = torch.einsum("btd,sd->bts", h, v_rows[kv * S : (kv + 1) * S])
            if a.qk_norm:
                q, k = norm(q, w["attention.query_norm"]), norm(k, w["attention.key_norm"])
            scores = torch.einsum("bts,bus->btu", turn(q), turn(k)) / math.sqrt(S)
            shares = scores.masked_fill(~visible, -math.inf).softmax(-1)
            heads.append(torch.einsum("btu,bus->bts", shares, v))
        x = x + torch.einsum("bth,dh->btd", torch.cat(heads, -1), w["attention.out.weight"])
        h = norm(x, w["mlp_norm.weight"])
        gate, up = torch.einsum("btd,fd->btf", h, w["mlp.gate_up.weight"]).chunk(2, -1)
        x = x + torch.einsum("btf,df->btd", gate * gate.sigmoid() * up, w["mlp.down.weight"])
    head = weights["embedding.weight"] if a.tied else weights["head.weight"]
    return torch.einsum("btd,vd->btv", norm(x, weights["norm.weight"]), head)


@given(architectures(), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_logits_equal_a_plain_reimplementation(architecture: Decoder, seed: int) -> None:
    model = build(architecture, seed=seed).double()
    for weight in model.parameters():  # gains other than 1, or a forgotten one would not show
        weight.data += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).double()
    model.table = rotary_table(architecture.context, architecture.head_size, architecture.rope_theta)
    tokens = torch.randint(architecture.vocabulary, (2, architecture.context))
    ours = model.logits(model(tokens))
    plain = _reference(architecture, dict(model.named_parameters()), tokens)
    torch.testing.assert_close(ours, plain, rtol=2e-5, atol=2e-5)  # rotation is done in fp32


def test_one_key_head_for_each_query_head_is_plain_attention_of_repeated_keys() -> None:
    grouped = build(SMALL, seed=1)
    plain = build(Decoder(**{f: getattr(SMALL, f) for f in SMALL.__struct_fields__} | {"kv_heads": 4}), seed=1)
    H, K, S = SMALL.heads, SMALL.kv_heads, SMALL.head_size
    weights = dict(grouped.state_dict())
    for name, rows in list(weights.items()):
        if name.endswith("qkv.weight"):
            q, k, v = rows.tensor_split((H * S, (H + K) * S))
            repeat = [part.view(K, S, -1).repeat_interleave(H // K, 0).flatten(0, 1) for part in (k, v)]
            weights[name] = torch.cat((q, *repeat))
    plain.load_state_dict(weights)
    tokens = torch.randint(SMALL.vocabulary, (2, SMALL.context))
    with torch.no_grad():
        torch.testing.assert_close(grouped(tokens), plain(tokens), rtol=1e-5, atol=1e-5)


def test_the_norm_has_the_gradient_autograd_would_find() -> None:
    for shape, gain_shape in (((3, 5, 8), (8,)), ((3, 5, 2, 8), (2, 8))):
        x, gain = torch.randn(shape).double().requires_grad_(), torch.randn(gain_shape).double().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, gain: normalise(x, gain, 1e-6), (x, gain))


def test_rotation_makes_products_depend_on_the_distance_alone() -> None:
    table = rotary_table(32, 8, 10_000.0)
    q, k = torch.randn(8), torch.randn(8)
    turned_q, turned_k = (rotate(x.expand(1, 32, 1, 8), table)[0, :, 0] for x in (q, k))
    products = turned_q @ turned_k.T
    for distance in range(5):
        diagonal = products.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)
