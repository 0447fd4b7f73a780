"""The encoder-decoder held against the closed forms of `count` and against T5's formulas written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.model.encoder_decoder import buckets
from isoflop.specs.architecture import EncoderDecoder

SMALL = EncoderDecoder(
    layers=2, decoder_layers=3, width=24, heads=3, head_size=6, hidden=40, vocabulary=50, context=16
)  # fmt: skip


@st.composite
def architectures(draw: st.DrawFn) -> EncoderDecoder:
    return EncoderDecoder(
        layers=draw(st.integers(1, 3)),
        decoder_layers=draw(st.sampled_from([None, 1, 2])),
        width=draw(st.integers(1, 40)),
        heads=draw(st.integers(1, 4)),
        head_size=draw(st.integers(1, 9)),
        hidden=draw(st.integers(1, 70)),
        vocabulary=draw(st.integers(2, 300)),
        context=draw(st.integers(1, 24)),
        gated=draw(st.booleans()),
        tied=draw(st.booleans()),
        buckets=draw(st.sampled_from([4, 8, 32])),
        max_distance=draw(st.sampled_from([17, 128])),
    )


@given(architectures(), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_torch_counts_the_parameters_and_the_flop_we_count(architecture: EncoderDecoder, written: int) -> None:
    model = build(architecture, seed=0, device="meta")
    assert sum(weight.numel() for weight in model.parameters()) == parameters(architecture).total
    inputs = torch.zeros(2, architecture.context, dtype=torch.long, device="meta")
    outputs = torch.zeros(2, written, dtype=torch.long, device="meta")
    counted = flops_per_token(architecture, sequence=architecture.context, target=written)
    tokens = 2 * (architecture.context + written)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model.logits(model(inputs, outputs))
    assert forward.get_total_flops() == pytest.approx(counted.forward * tokens, rel=1e-12)
    with FlopCounterMode(display=False) as both:
        torch.autograd.backward(model.logits(model(inputs, outputs)).sum())
    assert both.get_total_flops() == pytest.approx(counted.total * tokens, rel=1e-12)


def test_t5_has_its_published_size() -> None:
    """As `transformers` counts t5-base and google/t5-v1_1-base."""
    base = {"layers": 12, "width": 768, "heads": 12, "head_size": 64, "vocabulary": 32_128, "context": 512}
    assert parameters(EncoderDecoder(**base, hidden=3072, gated=False, tied=True)).total == 222_903_552
    assert parameters(EncoderDecoder(**base, hidden=2048)).total == 247_577_856  # type: ignore[arg-type]


def bucket(distance: int, *, both_ways: bool, count: int, farthest: int) -> int:
    """T5's buckets one at a time: half of a direction's single, then logarithmically wider ones."""
    upper = 0
    if both_ways:
        count //= 2
        upper = count if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    single = count // 2
    if distance < single:
        return upper + distance
    wide = single + int(math.log(distance / single) / math.log(farthest / single) * (count - single))
    return upper + min(wide, count - 1)


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("count", "farthest"), [(32, 128), (8, 17), (16, 100)])
def test_distances_fall_into_t5s_buckets(both_ways: bool, count: int, farthest: int) -> None:
    spec = replace(SMALL, buckets=count, max_distance=farthest)
    found = buckets(torch.arange(-300, 301), spec=spec, both_ways=both_ways).tolist()
    wanted = [bucket(d, both_ways=both_ways, count=count, farthest=farthest) for d in range(-300, 301)]
    # Where the logarithm is a whole number, rounding decides, in theirs as in ours; nowhere else.
    off = [d for d, ours, theirs in zip(range(-300, 301), found, wanted, strict=True) if ours != theirs]
    assert len(off) <= 4
    assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(found, wanted, strict=True))


def reference(a: EncoderDecoder, w: dict[str, Tensor], inputs_BT: Tensor, outputs_BU: Tensor) -> Tensor:
    """T5 once more: explicit heads and masks, biases place by place."""

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + a.norm_epsilon).sqrt() * w[f"{name}.weight"]

    def mix(q: Tensor, k: Tensor, v: Tensor, bias_HTU: Tensor | None) -> Tensor:
        heads = []
        for h in range(a.heads):
            own = slice(h * a.head_size, (h + 1) * a.head_size)
            scores = torch.einsum("bts,bus->btu", q[..., own], k[..., own])  # T5 divides by nothing
            if bias_HTU is not None:
                scores = scores + bias_HTU[h]
            heads.append(torch.einsum("btu,bus->bts", scores.softmax(-1), v[..., own]))
        return torch.cat(heads, -1)

    def mlp(x: Tensor, at: str) -> Tensor:
        if not a.gated:
            return (x @ w[f"{at}mlp.up.weight"].T).clamp(min=0) @ w[f"{at}mlp.down.weight"].T
        gate, up = (x @ w[f"{at}mlp.gate_up.weight"].T).chunk(2, -1)
        gelu = gate * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) / 2
        return (gelu * up) @ w[f"{at}mlp.down.weight"].T

    def stack(x: Tensor, name: str, layers: int, source: Tensor | None) -> Tensor:
        length, writes = x.shape[1], source is not None
        bias = torch.full((a.heads, length, length), -math.inf, dtype=x.dtype)
        for q in range(length):
            for k in range(q + 1 if writes else length):
                index = bucket(k - q, both_ways=not writes, count=a.buckets, farthest=a.max_distance)
                bias[:, q, k] = w[f"{name}.relative.weight"][index]
        for layer in range(layers):
            at = f"{name}.blocks.{layer}."
            query, key, value = (norm(x, f"{at}attention_norm") @ w[f"{at}attention.qkv.weight"].T).chunk(3, -1)
            x = x + mix(query, key, value, bias) @ w[f"{at}attention.out.weight"].T
            if source is not None:
                query = norm(x, f"{at}cross_norm") @ w[f"{at}cross.query.weight"].T
                key, value = (source @ w[f"{at}cross.key_value.weight"].T).chunk(2, -1)
                x = x + mix(query, key, value, None) @ w[f"{at}cross.out.weight"].T
            x = x + mlp(norm(x, f"{at}mlp_norm"), at)
        return norm(x, f"{name}.norm")

    embedding = w["embedding.weight"]
    read = stack(embedding[inputs_BT], "encoder", a.layers, None)
    x = stack(embedding[outputs_BU], "decoder", a.writing_layers, read)
    return x / math.sqrt(a.width) @ embedding.T if a.tied else x @ w["head.weight"].T


@given(architectures(), st.integers(1, 9), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_logits_equal_t5s_formulas(architecture: EncoderDecoder, written: int, seed: int) -> None:
    model = build(architecture, seed=seed).double()
    random = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=random).double()
    inputs = torch.randint(architecture.vocabulary, (2, architecture.context), generator=random)
    outputs = torch.randint(architecture.vocabulary, (2, written), generator=random)
    with torch.no_grad():
        ours = model.logits(model(inputs, outputs))
        theirs = reference(architecture, dict(model.named_parameters()), inputs, outputs)
    torch.testing.assert_close(ours, theirs)


def test_what_is_written_depends_on_all_that_is_read_and_on_nothing_written_later() -> None:
    model = build(SMALL, seed=0).double()
    random = torch.Generator().manual_seed(0)
    inputs, outputs = (torch.randint(50, (1, n), generator=random) for n in (16, 9))
    plain = model(inputs, outputs)
    for at in (0, 8, 15):
        changed = inputs.clone()
        changed[0, at] = (changed[0, at] + 1) % 50
        assert ((model(changed, outputs) - plain).abs().amax(2) > 1e-9).all()
    for at in (0, 4, 8):
        changed = outputs.clone()
        changed[0, at] = (changed[0, at] + 1) % 50
        different = (model(inputs, changed) - plain).abs().amax(2)[0]
        assert (different[:at] == 0).all()
        assert (different[at:] > 1e-9).all()


@pytest.mark.parametrize("tied", [False, True])
def test_a_fresh_model_knows_nothing_and_is_half_a_nat_from_uniform(tied: bool) -> None:
    big = EncoderDecoder(layers=2, width=96, heads=3, head_size=32, hidden=256, vocabulary=512, context=64, tied=tied)
    model, random = build(big, seed=0), torch.Generator().manual_seed(0)
    inputs, outputs, targets = (torch.randint(512, (8, n), generator=random) for n in (64, 32, 32))
    logits_BUV = model.logits(model(inputs, outputs))
    # A tied head knows the token it stands at, for the embedding is still in the stream: T5 begins like that.
    logits_BUV = logits_BUV.scatter(2, outputs[:, :, None], 0.0) if tied else logits_BUV
    assert logits_BUV.std().item() == pytest.approx(1.0, abs=0.05)
    nats = cross_entropy(logits_BUV.flatten(0, 1), targets.flatten())
    assert nats.item() == pytest.approx(math.log(512) + 0.5, abs=0.15)


def test_fresh_scores_of_attention_have_the_variance_that_a_division_would_give() -> None:
    spec = EncoderDecoder(layers=1, width=256, heads=4, head_size=64, hidden=64, vocabulary=64, context=8)
    qkv = dict(build(spec, seed=0).named_parameters())["encoder.blocks.0.attention.qkv.weight"]
    q, k, _ = (torch.randn(4096, 256) @ qkv.T).view(4096, 3, 4, 64).unbind(1)
    assert (q * k).sum(-1).std().item() == pytest.approx(1.0, rel=0.1)


def test_recomputation_changes_no_gradient_and_every_weight_has_one() -> None:
    random = torch.Generator().manual_seed(0)
    inputs, outputs = (torch.randint(50, (3, n), generator=random) for n in (16, 9))
    found = []
    for recompute in ("none", "full"):
        model = build(SMALL, seed=0, recompute=recompute)
        torch.autograd.backward(model.logits(model(inputs, outputs)).logsumexp(-1).sum())
        found.append([weight.grad for weight in model.parameters()])
    for plain, again in zip(*found, strict=True):
        assert plain is not None
        assert again is not None
        assert plain.abs().sum() > 0
        assert torch.equal(plain, again)


def test_selective_recomputation_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match='"selective" knows no encoders; take "full" or "none"'):
        build(SMALL, seed=0, recompute="selective")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layers": 0}, "layers is 0; it must be at least 1"),
        ({"decoder_layers": 0}, "decoder_layers is 0; it must be at least 1"),
        ({"buckets": 6}, "buckets is 6; it must be a multiple of 4"),
        ({"max_distance": 16}, "max_distance is 16; it must be more than half of the buckets, 16"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; it must be positive and finite"),
    ],
)
def test_what_cannot_be_built_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=f"^architecture: {said}"):
        replace(SMALL, **fields)
