"""What a query sees: windows, documents and prefixes against a softmax written out, and packed against alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.data.corrupt.prefix import visible
from isoflop.model.attention import attend
from isoflop.model.build import build
from isoflop.model.decoder import Decoder as Model
from isoflop.model.seen import CAUSAL, EVERYTHING, seen
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.layout import Recompute

SMALL = Decoder(layers=3, width=24, heads=4, kv_heads=2, head_size=6, hidden=40, vocabulary=50, context=20)
WINDOWED = replace(SMALL, window=4, full_every=2)
TOKENS = torch.zeros(2, 20, dtype=torch.long)


@st.composite
def narrowings(draw: st.DrawFn) -> dict[str, object]:
    """A rule over two rows of some length."""
    length = draw(st.integers(1, 20))
    cuts = st.lists(st.integers(0, 3), min_size=length, max_size=length).map(sorted)
    documents = torch.tensor([draw(cuts), draw(cuts)]) if draw(st.booleans()) else None
    prefixes = st.lists(st.integers(0, length), min_size=2, max_size=2).map(torch.tensor)
    return {
        "causal": draw(st.booleans()),
        "window": draw(st.none() | st.integers(1, 25)),
        "documents_BT": documents,
        "prefix_B": draw(st.none() | prefixes),
        "length": length,
    }


def naive(q: Tensor, k: Tensor, v: Tensor, rule: dict[str, object]) -> Tensor:
    """Query by query: a list of the keys it sees, and the softmax over those alone."""
    (B, T, H, S), groups = q.shape, q.shape[2] // k.shape[2]
    documents, prefix, window = rule["documents_BT"], rule["prefix_B"], rule["window"]
    out = torch.zeros_like(q)
    for b in range(B):
        for t in range(T):
            keys = []
            for u in range(T):
                sees: bool | Tensor = u <= t or not rule["causal"]
                sees = sees or (isinstance(prefix, Tensor) and u < prefix[b])
                sees = sees and (not isinstance(window, int) or abs(t - u) < window)
                if sees and (not isinstance(documents, Tensor) or documents[b, t] == documents[b, u]):
                    keys.append(u)
            for h in range(H):
                scores = torch.stack([q[b, t, h] @ k[b, u, h // groups] / math.sqrt(S) for u in keys])
                out[b, t, h] = scores.softmax(0) @ v[b, keys, h // groups]
    return out


@given(narrowings(), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("flex", [False, True])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_attention_is_the_softmax_over_the_keys_that_are_seen(flex: bool, rule: dict[str, object], seed: int) -> None:
    random, length = torch.Generator().manual_seed(seed), int(str(rule["length"]))
    q, k, v = (torch.randn(2, length, heads, 8, generator=random) for heads in (4, 2, 2))
    told = {name: value for name, value in rule.items() if name != "length"}
    sight = seen(TOKENS[:, :length], flex=flex, **told)  # type: ignore[arg-type]
    torch.testing.assert_close(attend(q, k, v, sight), naive(q, k, v, rule).flatten(2), rtol=1e-5, atol=1e-5)


def test_where_nothing_narrows_there_is_no_mask() -> None:
    assert seen(TOKENS, causal=True) is CAUSAL
    assert seen(TOKENS, causal=False) is EVERYTHING
    assert seen(TOKENS, causal=True, window=20) is CAUSAL
    assert seen(TOKENS, causal=True, window=19).mask is not None


def test_a_prefix_is_seen_as_the_objective_says() -> None:
    prefix = torch.tensor([3, 20])
    mask = seen(TOKENS, causal=True, prefix_B=prefix).mask
    assert mask is not None
    assert torch.equal(mask[:, 0], torch.from_numpy(visible(prefix.numpy(), 20)))


def model(spec: Decoder, recompute: Recompute = "none") -> Model:
    return build(spec, seed=0, recompute=recompute).double()


def tokens(rows: int = 1, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", [SMALL, WINDOWED, replace(SMALL, window=3)], ids=["full", "mixed", "window"])
def test_documents_packed_are_the_documents_alone(spec: Decoder) -> None:
    whole, text = model(spec), tokens()
    packed = whole(text, documents_BT=torch.tensor([[0] * 7 + [2] * 4 + [5] * 9]))
    alone = torch.cat([whole(part) for part in text.split_with_sizes((7, 4, 9), dim=1)], dim=1)
    # Each stands elsewhere when packed: rotary scores know distances only, up to fp32, in which angles are kept.
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


def differs(one: Tensor, other: Tensor) -> list[bool]:
    return ((one - other).abs().amax(2)[0] > 1e-9).tolist()


def test_a_window_reaches_as_far_as_its_blocks_together_and_not_a_token_further() -> None:
    narrow, text = model(replace(SMALL, window=4)), tokens()
    changed = text.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 50
    reach = 3 * (4 - 1)  # three blocks, each hands on from three tokens back
    assert differs(narrow(text), narrow(changed)) == [5 <= t <= 5 + reach for t in range(20)]


def test_a_block_without_a_window_sees_everything() -> None:
    text = tokens()
    changed = text.clone()
    changed[0, 2] = (changed[0, 2] + 1) % 50
    assert differs(model(WINDOWED)(text), model(WINDOWED)(changed)) == [t >= 2 for t in range(20)]


def test_a_prefix_sees_itself_both_ways_and_the_rest_looks_back() -> None:
    whole, text = model(SMALL), tokens()
    for at, seen_from in ((5, 0), (6, 6), (12, 12)):
        changed = text.clone()
        changed[0, at] = (changed[0, at] + 1) % 50
        ours, theirs = (whole(row, prefix_B=torch.tensor([6])) for row in (text, changed))
        assert differs(ours, theirs) == [t >= seen_from for t in range(20)]


def test_documents_of_one_and_prefixes_of_one_change_nothing() -> None:
    whole, text = model(SMALL), tokens(2)
    torch.testing.assert_close(whole(text, documents_BT=torch.ones_like(text)), whole(text))
    torch.testing.assert_close(whole(text, prefix_B=torch.ones(2, dtype=torch.long)), whole(text))


@pytest.mark.parametrize("recompute", ["full", "selective"])
def test_recomputation_changes_no_gradient_where_something_narrows(recompute: Recompute) -> None:
    text, documents, prefix = tokens(2), torch.tensor([[0] * 8 + [1] * 12] * 2), torch.tensor([3, 5])
    found = []
    for how in ("none", recompute):
        learned = model(WINDOWED, how)
        out = learned.logits(learned(text, documents_BT=documents, prefix_B=prefix))
        torch.autograd.backward(out.logsumexp(-1).sum())
        found.append([weight.grad for weight in learned.parameters()])
    for plain, again in zip(*found, strict=True):
        assert plain is not None
        assert plain.abs().sum() > 0
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("full_every", [None, 1, 2, 6])
def test_windows_are_counted_as_they_lie(layers: int, full_every: int | None) -> None:
    spec = replace(SMALL, layers=layers, window=4, full_every=full_every)
    windows = [None if full_every and (layer + 1) % full_every == 0 else 4 for layer in range(layers)]
    assert list(spec.windows) == windows
    counted = [block.attention.window for block in spec.transformer().decoder for _ in range(block.layers)]
    assert sorted(counted, key=str) == sorted(windows, key=str)
    assert parameters(spec) == parameters(replace(spec, window=None, full_every=None))
    keys = sum(sum(min(t + 1, window or 20) for t in range(20)) / 20 for window in windows)
    assert flops_per_token(spec, sequence=20, causal=True).attention_forward == pytest.approx(4 * 4 * 6 * keys)


def test_torch_counts_the_flop_we_count_for_windows() -> None:
    empty = build(WINDOWED, seed=0, device="meta")
    with FlopCounterMode(display=False) as both:
        torch.autograd.backward(empty.logits(empty(TOKENS.to("meta"))).sum())
    assert both.get_total_flops() == flops_per_token(WINDOWED, sequence=20).total * TOKENS.numel()


def test_the_load_of_experts_is_what_they_were_chosen_for() -> None:
    routed = build(replace(SMALL, experts=Routing(count=5, active=2)), seed=0)
    routed(tokens(3))
    load = routed.expert_load()
    assert load is not None
    assert load.shape == (3, 5)
    torch.testing.assert_close(load.sum(1), torch.ones(3))
    assert torch.equal(load[1], routed.mixtures[1].chosen_E / (3 * 20 * 2))
    assert build(SMALL, seed=0).expert_load() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: compiling for a CPU takes half a minute")
def test_the_compiled_kernel_says_the_same_as_the_mask() -> None:
    rule = {"causal": True, "window": 150, "documents_BT": torch.tensor([[0] * 100 + [1] * 200], device="cuda")}
    text = torch.zeros(1, 300, dtype=torch.long, device="cuda")
    q, k, v = (torch.randn(1, 300, heads, 32, device="cuda") for heads in (4, 2, 2))
    blocks, mask = (seen(text, flex=flex, **rule) for flex in (True, False))  # type: ignore[arg-type]
    torch.testing.assert_close(attend(q, k, v, blocks), attend(q, k, v, mask), rtol=1e-3, atol=1e-3)
