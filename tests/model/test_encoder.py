"""The encoder held against the closed forms of `count` and against BERT's formulas written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.specs.architecture import Encoder

SMALL = Encoder(layers=2, width=24, heads=3, head_size=8, hidden=40, vocabulary=50, context=16, segments=2)


@st.composite
def architectures(draw: st.DrawFn) -> Encoder:
    return Encoder(
        layers=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 40)),
        heads=draw(st.integers(1, 4)),
        head_size=draw(st.integers(1, 9)),
        hidden=draw(st.integers(1, 70)),
        vocabulary=draw(st.integers(2, 300)),
        context=draw(st.integers(1, 24)),
        segments=draw(st.integers(0, 2)),
        norm_epsilon=draw(st.sampled_from([1e-12, 1e-5])),
    )


@given(architectures())
@settings(max_examples=40, deadline=None)
def test_torch_counts_the_parameters_and_the_flop_we_count(architecture: Encoder) -> None:
    model = build(architecture, seed=0, device="meta")
    assert sum(weight.numel() for weight in model.parameters()) == parameters(architecture).total
    tokens = torch.zeros(2, architecture.context, dtype=torch.long, device="meta")
    counted = flops_per_token(architecture, sequence=architecture.context)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model.logits(model(tokens))
    assert forward.get_total_flops() == counted.forward * tokens.numel()
    with FlopCounterMode(display=False) as both:
        torch.autograd.backward(model.logits(model(tokens)).sum())
    assert both.get_total_flops() == counted.total * tokens.numel()


def test_bert_and_roberta_have_their_published_size() -> None:
    """As `transformers` counts bert-base-uncased and roberta-base, whose table of positions has two rows more."""
    base = {"layers": 12, "width": 768, "heads": 12, "head_size": 64, "hidden": 3072, "context": 512}
    assert parameters(Encoder(**base, vocabulary=30_522, segments=2)).total == 109_514_298
    assert parameters(Encoder(**base, vocabulary=50_265, segments=1)).total + 2 * 768 == 124_697_433


def reference(a: Encoder, w: dict[str, Tensor], tokens_BT: Tensor, segments_BT: Tensor) -> Tensor:
    """BERT once more: explicit heads, LayerNorm and GELU by their formulas."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        unit = centred / (centred.pow(2).mean(-1, keepdim=True) + a.norm_epsilon).sqrt()
        return unit * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    def linear(x: Tensor, name: str) -> Tensor:
        return torch.einsum("btd,ed->bte", x, w[f"{name}.weight"]) + w[f"{name}.bias"]

    x = w["embedding.weight"][tokens_BT] + w["positions.weight"][: tokens_BT.shape[1]]
    if a.segments:
        x = x + w["segments.weight"][segments_BT]
    x = norm(x, "embedding_norm")
    S = a.head_size
    for layer in range(a.layers):
        at = f"blocks.{layer}."
        q, k, v = linear(x, f"{at}attention.qkv").chunk(3, -1)
        heads = []
        for h in range(a.heads):
            own = slice(h * S, (h + 1) * S)
            scores = torch.einsum("bts,bus->btu", q[..., own], k[..., own]) / math.sqrt(S)
            heads.append(torch.einsum("btu,bus->bts", scores.softmax(-1), v[..., own]))
        x = norm(x + linear(torch.cat(heads, -1), f"{at}attention.out"), f"{at}attention_norm")
        x = norm(x + linear(gelu(linear(x, f"{at}mlp.up")), f"{at}mlp.down"), f"{at}mlp_norm")
    x = norm(gelu(linear(x, "transform")), "transform_norm")
    return torch.einsum("btd,vd->btv", x, w["embedding.weight"]) + w["head_bias"]


@given(architectures(), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_logits_equal_berts_formulas(architecture: Encoder, seed: int) -> None:
    model = build(architecture, seed=seed).double()
    random = torch.Generator().manual_seed(seed)
    for weight in model.parameters():  # gains other than 1 and biases other than 0, or a forgotten one would not show
        weight.data += 0.1 * torch.randn(weight.shape, generator=random).double()
    tokens = torch.randint(architecture.vocabulary, (2, architecture.context), generator=random)
    segments = torch.randint(max(1, architecture.segments), tokens.shape, generator=random)
    ours = model.logits(model(tokens, segments_BT=segments if architecture.segments else None))
    theirs = reference(architecture, dict(model.named_parameters()), tokens, segments)
    torch.testing.assert_close(ours, theirs)


def test_without_token_types_all_tokens_are_of_the_first() -> None:
    model, tokens = build(SMALL, seed=0), torch.randint(50, (2, 16))
    assert torch.equal(model(tokens), model(tokens, segments_BT=torch.zeros_like(tokens)))
    assert not torch.equal(model(tokens), model(tokens, segments_BT=torch.ones_like(tokens)))


def test_every_token_sees_every_other_and_the_head_only_its_own() -> None:
    model = build(SMALL, seed=0).double()
    tokens = torch.randint(50, (1, 16), generator=torch.Generator().manual_seed(0))
    for at in (0, 7, 15):
        changed = tokens.clone()
        changed[0, at] = (changed[0, at] + 1) % 50
        assert ((model(tokens) - model(changed)).abs().amax(2) > 1e-9).all()
    x_ND = model(tokens)[0]
    picked = torch.tensor([3, 11])
    torch.testing.assert_close(model.logits(x_ND[picked]), model.logits(x_ND)[picked])


def test_a_document_does_not_know_what_it_is_packed_with() -> None:
    model = build(SMALL, seed=0).double()
    tokens = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0] * 5 + [1] * 11, [3] * 9 + [4] + [5] * 6])
    other = torch.where(documents == documents[:, :1], tokens, (tokens + 1) % 50)
    ours, theirs = model(tokens, documents_BT=documents), model(other, documents_BT=documents)
    first = documents == documents[:, :1]
    torch.testing.assert_close(ours[first], theirs[first])
    assert not torch.allclose(model(tokens)[first], model(other)[first])
    # The first document stands where it would alone.
    torch.testing.assert_close(ours[:1, :5], model(tokens[:1, :5]))


def test_a_fresh_model_knows_nothing_and_is_half_a_nat_from_uniform() -> None:
    # As of the decoder: logits of variance 1, since LayerNorm leaves a hidden state of length sqrt(D).
    big = Encoder(layers=2, width=96, heads=3, head_size=32, hidden=384, vocabulary=512, context=64)
    model = build(big, seed=0)
    tokens = torch.randint(512, (8, 64), generator=torch.Generator().manual_seed(0))
    targets = torch.randint(512, (8, 64), generator=torch.Generator().manual_seed(1))
    nats = cross_entropy(model.logits(model(tokens)).flatten(0, 1), targets.flatten())
    assert nats.item() == pytest.approx(math.log(512) + 0.5, abs=0.15)


def test_recomputation_changes_no_gradient_and_every_weight_has_one() -> None:
    tokens = torch.randint(50, (3, 16), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0] * 6 + [1] * 10] * 3)
    found = []
    for recompute in ("none", "full"):
        model = build(SMALL, seed=0, recompute=recompute)
        torch.autograd.backward(model.logits(model(tokens, documents_BT=documents)).logsumexp(-1).sum())
        found.append([weight.grad for weight in model.parameters()])
    for plain, again in zip(*found, strict=True):
        assert plain is not None
        assert again is not None
        assert plain.abs().sum() > 0
        assert torch.equal(plain, again)


def test_selective_recomputation_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match='"selective" knows no encoders; take "full" or "none"'):
        build(SMALL, seed=0, recompute="selective")
