"""Names and shapes against those of Hugging Face's published files, written out; the rest by what weights do there."""

import math
from typing import TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor
from torch.nn.functional import silu

from isoflop.errors import InputError, UsageError
from isoflop.model.build import build
from isoflop.model.exchange import from_hugging_face, to_hugging_face
from isoflop.model.names import model_types
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder, Model, Routing

DECODER = Decoder(
    layers=2,
    width=12,
    heads=4,
    kv_heads=2,
    head_size=6,
    hidden=20,
    vocabulary=30,
    context=16,
    tied=False,
    qk_norm=False,
)
NORMED = replace(DECODER, qk_norm=True)
EXPERTS = replace(DECODER, layers=1, experts=Routing(count=2, active=1))
ENCODER = Encoder(layers=1, width=12, heads=2, head_size=6, hidden=20, vocabulary=30, context=16, segments=2)
T5 = EncoderDecoder(layers=2, decoder_layers=1, width=12, heads=2, head_size=8, hidden=20, vocabulary=30, context=16)

Shapes: TypeAlias = dict[str, tuple[int, ...]]

ATTENTION: Shapes = {"q_proj": (24, 12), "k_proj": (12, 12), "v_proj": (12, 12), "o_proj": (12, 24)}
MLP: Shapes = {"gate_proj": (20, 12), "up_proj": (20, 12), "down_proj": (12, 20)}


def llama(layers: int, tail: Shapes) -> Shapes:
    """What Llama-2-7b's, Mistral-7B's and Qwen3's files name alike."""
    names: Shapes = {"model.embed_tokens.weight": (30, 12), "model.norm.weight": (12,)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        names |= {f"{at}self_attn.{name}.weight": shape for name, shape in ATTENTION.items()}
        names |= {f"{at}input_layernorm.weight": (12,), f"{at}post_attention_layernorm.weight": (12,)}
        names |= {f"{at}{name}.weight": shape for name, shape in tail.items()}
    return names


DENSE: Shapes = {f"mlp.{name}": shape for name, shape in MLP.items()}
HEAD: Shapes = {"lm_head.weight": (30, 12)}
GAINS: Shapes = {"self_attn.q_norm": (6,), "self_attn.k_norm": (6,)}
MIXTRAL: Shapes = {"block_sparse_moe.gate": (2, 12)}
MIXTRAL |= {
    f"block_sparse_moe.experts.{expert}.{name}": shape
    for expert in (0, 1)
    for name, shape in {"w1": (20, 12), "w2": (12, 20), "w3": (20, 12)}.items()
}
QWEN3_MOE: Shapes = {"mlp.gate": (2, 12)}
QWEN3_MOE |= {f"mlp.experts.{expert}.{name}": shape for expert in (0, 1) for name, shape in MLP.items()}


def linear(at: str, rows: int, columns: int) -> Shapes:
    return {f"{at}.weight": (rows, columns), f"{at}.bias": (rows,)}


def norm(at: str) -> Shapes:
    return {f"{at}.weight": (12,), f"{at}.bias": (12,)}


def bert(prefix: str, positions: int, types: int) -> Shapes:
    """bert-base-uncased's and roberta-base's, without their heads."""
    table, block = f"{prefix}.embeddings.", f"{prefix}.encoder.layer.0."
    return {
        f"{table}word_embeddings.weight": (30, 12),
        f"{table}position_embeddings.weight": (positions, 12),
        f"{table}token_type_embeddings.weight": (types, 12),
        **norm(f"{table}LayerNorm"),
        **linear(f"{block}attention.self.query", 12, 12),
        **linear(f"{block}attention.self.key", 12, 12),
        **linear(f"{block}attention.self.value", 12, 12),
        **linear(f"{block}attention.output.dense", 12, 12),
        **norm(f"{block}attention.output.LayerNorm"),
        **linear(f"{block}intermediate.dense", 20, 12),
        **linear(f"{block}output.dense", 12, 20),
        **norm(f"{block}output.LayerNorm"),
    }


BERT_HEAD: Shapes = {
    "cls.predictions.bias": (30,),
    **linear("cls.predictions.transform.dense", 12, 12),
    **norm("cls.predictions.transform.LayerNorm"),
}
ROBERTA_HEAD: Shapes = {"lm_head.bias": (30,), **linear("lm_head.dense", 12, 12), **norm("lm_head.layer_norm")}


def t5(mlp: Shapes) -> Shapes:
    """t5-small's and t5-v1_1-small's, with two blocks that read and one that writes."""

    def attention(at: str) -> Shapes:
        return {f"{at}.{name}.weight": (12, 16) if name == "o" else (16, 12) for name in "qkvo"}

    names: Shapes = {"shared.weight": (30, 12)}
    for stack, block in (("encoder", 0), ("encoder", 1), ("decoder", 0)):
        at, mlp_at = f"{stack}.block.{block}.layer.", 1 if stack == "encoder" else 2
        names |= attention(f"{at}0.SelfAttention") | {f"{at}0.layer_norm.weight": (12,)}
        if stack == "decoder":
            names |= attention(f"{at}1.EncDecAttention") | {f"{at}1.layer_norm.weight": (12,)}
        names |= {f"{at}{mlp_at}.DenseReluDense.{name}.weight": shape for name, shape in mlp.items()}
        names[f"{at}{mlp_at}.layer_norm.weight"] = (12,)
    for stack in ("encoder", "decoder"):
        names[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, 2)
        names[f"{stack}.final_layer_norm.weight"] = (12,)
    return names


LAYOUTS: dict[str, tuple[Model, str, Shapes]] = {
    "llama": (DECODER, "llama", llama(2, DENSE) | HEAD),
    "tied": (replace(DECODER, tied=True), "llama", llama(2, DENSE)),
    "mistral": (replace(DECODER, window=4), "mistral", llama(2, DENSE) | HEAD),
    "qwen3": (NORMED, "qwen3", llama(2, DENSE | GAINS) | HEAD),
    "mixtral": (EXPERTS, "mixtral", llama(1, MIXTRAL) | HEAD),
    "qwen3-moe": (replace(EXPERTS, qk_norm=True), "qwen3_moe", llama(1, QWEN3_MOE | GAINS) | HEAD),
    "bert": (ENCODER, "bert", bert("bert", 16, 2) | BERT_HEAD),
    "no segments": (replace(ENCODER, segments=0), "bert", bert("bert", 16, 1) | BERT_HEAD),
    "roberta": (replace(ENCODER, segments=1), "roberta", bert("roberta", 18, 1) | ROBERTA_HEAD),
    "t5 1.0": (replace(T5, tied=True, gated=False), "t5", t5({"wi": (20, 12), "wo": (12, 20)})),
    "t5 1.1": (T5, "t5", t5({"wi_0": (20, 12), "wi_1": (20, 12), "wo": (12, 20)}) | HEAD),
}


def state(spec: Model, seed: int = 0) -> dict[str, Tensor]:
    """Weights of which no two are alike, gains and biases too."""
    random = torch.Generator().manual_seed(seed)
    shapes = build(spec, seed=0, device="meta").state_dict()
    return {name: torch.randn(weight.shape, generator=random) for name, weight in shapes.items()}


@pytest.mark.parametrize("case", LAYOUTS)
def test_names_and_shapes_are_those_of_published_files(case: str) -> None:
    spec, model_type, names = LAYOUTS[case]
    theirs = to_hugging_face(spec, state(spec), model_type)
    assert {name: tuple(weight.shape) for name, weight in theirs.items()} == names
    assert len({weight.data_ptr() for weight in theirs.values()}) == len(theirs)  # safetensors shares no storage


@pytest.mark.parametrize("case", LAYOUTS)
def test_there_and_back_is_every_bit(case: str) -> None:
    spec, model_type, _ = LAYOUTS[case]
    ours = state(spec)
    back = from_hugging_face(spec, to_hugging_face(spec, ours, model_type), model_type)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], weight) for name, weight in ours.items())
    build(spec, seed=0).load_state_dict(back)


@st.composite
def decoders(draw: st.DrawFn) -> Decoder:
    kv_heads = draw(st.integers(1, 3))
    return Decoder(
        layers=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 20)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_size=2 * draw(st.integers(1, 5)),
        hidden=draw(st.integers(1, 30)),
        vocabulary=draw(st.integers(2, 40)),
        context=draw(st.integers(1, 20)),
        tied=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        experts=draw(st.none() | st.integers(1, 4).map(lambda count: Routing(count=count, active=1))),
    )


@given(decoders(), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_every_decoder_comes_back(spec: Decoder, seed: int) -> None:
    ours, (model_type, *_) = state(spec, seed), model_types(spec)
    theirs = to_hugging_face(spec, ours, model_type)
    back = from_hugging_face(spec, theirs, model_type)
    assert all(torch.equal(back[name], weight) for name, weight in ours.items())
    assert sum(weight.numel() for weight in theirs.values()) == sum(weight.numel() for weight in ours.values())


def llama_logits(a: Decoder, w: dict[str, Tensor], tokens_BT: Tensor) -> Tensor:
    """A Llama, or Qwen3, as Hugging Face lays it out: channel i turns with i + S/2; experts one by one.

    Source: rotate_half of GPT-NeoX and Llama in Hugging Face's transformers; Su et al. 2021 for the angles.
    """
    S, half = a.head_size, a.head_size // 2

    def rms(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + a.norm_epsilon).sqrt() * w[f"{name}.weight"]

    def turned(x_BTS: Tensor) -> Tensor:
        place = torch.arange(x_BTS.shape[1], dtype=torch.float64)
        angle = place[:, None] * a.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
        first, second = x_BTS[..., :half], x_BTS[..., half:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    def swiglu(x: Tensor, gate: str, up: str, down: str) -> Tensor:
        return (silu(x @ w[f"{gate}.weight"].T) * (x @ w[f"{up}.weight"].T)) @ w[f"{down}.weight"].T

    x = w["model.embed_tokens.weight"][tokens_BT]
    later = torch.ones(tokens_BT.shape[1], tokens_BT.shape[1]).triu(1).bool()
    for layer in range(a.layers):
        at = f"model.layers.{layer}."
        y, heads = rms(x, f"{at}input_layernorm"), []
        q, k, v = ((y @ w[f"{at}self_attn.{name}_proj.weight"].T).view(*y.shape[:2], -1, S) for name in "qkv")
        if a.qk_norm:
            q, k = rms(q, f"{at}self_attn.q_norm"), rms(k, f"{at}self_attn.k_norm")
        for h in range(a.heads):
            g = h // (a.heads // a.kv_heads)
            scores = turned(q[:, :, h]) @ turned(k[:, :, g]).mT / math.sqrt(S)
            heads.append(scores.masked_fill(later, -math.inf).softmax(-1) @ v[:, :, g])
        x = x + torch.cat(heads, -1) @ w[f"{at}self_attn.o_proj.weight"].T
        y = rms(x, f"{at}post_attention_layernorm")
        if a.experts:
            share = (y @ w[f"{at}block_sparse_moe.gate.weight"].T).softmax(-1)
            best = share.topk(a.experts.active)
            for e in range(a.experts.count):
                weight = (best.values * (best.indices == e)).sum(-1, keepdim=True) / best.values.sum(-1, keepdim=True)
                expert = f"{at}block_sparse_moe.experts.{e}."
                x = x + weight * swiglu(y, f"{expert}w1", f"{expert}w3", f"{expert}w2")
        else:
            x = x + swiglu(y, *(f"{at}mlp.{name}_proj" for name in ("gate", "up", "down")))
    return rms(x, "model.norm") @ w["model.embed_tokens.weight" if a.tied else "lm_head.weight"].T


@pytest.mark.parametrize(
    "spec",
    [DECODER, replace(DECODER, tied=True), NORMED, replace(EXPERTS, experts=Routing(count=5, active=2))],
    ids=["llama", "tied", "qwen3", "mixtral"],
)
def test_their_formulas_say_the_same_of_the_weights_that_we_hand_over(spec: Decoder) -> None:
    ours, model = state(spec), build(spec, seed=0)
    model.load_state_dict(ours)
    model.double()
    tokens = torch.randint(30, (2, 16), generator=torch.Generator().manual_seed(0))
    theirs = to_hugging_face(spec, {name: weight.double() for name, weight in ours.items()}, model_types(spec)[0])
    # Our angles are kept in fp32, theirs here are not.
    torch.testing.assert_close(model.logits(model(tokens)), llama_logits(spec, theirs, tokens), rtol=1e-4, atol=1e-4)


def test_what_older_files_say_besides_is_left_out() -> None:
    for case, spare in {
        "tied": {"lm_head.weight": "model.embed_tokens.weight", "model.layers.0.self_attn.rotary_emb.inv_freq": ""},
        "bert": {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
            "bert.embeddings.position_ids": "",
            "bert.pooler.dense.weight": "",
            "cls.seq_relationship.weight": "",
        },
        "roberta": {
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
        "t5 1.1": {
            "encoder.embed_tokens.weight": "shared.weight",
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": "",
        },
    }.items():
        spec, model_type, _ = LAYOUTS[case]
        ours = state(spec)
        theirs = to_hugging_face(spec, ours, model_type)
        theirs |= {name: theirs.get(twin, torch.ones(2)) for name, twin in spare.items()}
        assert from_hugging_face(spec, theirs, model_type).keys() == ours.keys()


def test_padding_rows_of_positions_are_zero_there_and_dropped_here() -> None:
    spec, model_type, _ = LAYOUTS["roberta"]
    ours = state(spec)
    theirs = to_hugging_face(spec, ours, model_type)
    table = theirs["roberta.embeddings.position_embeddings.weight"]
    assert torch.equal(table[2:], ours["positions.weight"])
    assert not table[:2].any()
    table[:2] = 7.0
    assert torch.equal(from_hugging_face(spec, theirs, model_type)["positions.weight"], ours["positions.weight"])


def test_a_weight_that_has_no_place_is_refused() -> None:
    spec, model_type, _ = LAYOUTS["tied"]
    ours = state(spec)
    theirs = to_hugging_face(spec, ours, model_type)
    del ours["norm.weight"]
    with pytest.raises(InputError, match=r"1 of the model's weights are missing, the first of them norm\.weight"):
        to_hugging_face(spec, ours, model_type)
    with pytest.raises(InputError, match=r"none of this llama's, the first of them model\.layers\.2\.mlp"):
        from_hugging_face(spec, theirs | {"model.layers.2.mlp.up_proj.weight": torch.ones(20, 12)}, model_type)
    with pytest.raises(InputError, match=r"lm_head\.weight is not model\.embed_tokens\.weight, .*tied = false"):
        from_hugging_face(spec, theirs | {"lm_head.weight": torch.ones(30, 12)}, model_type)
    with pytest.raises(
        InputError, match=r"q_proj\.weight: its shape is \[12, 12\]; the architecture asks for \[24, 12\]"
    ):
        from_hugging_face(spec, theirs | {"model.layers.1.self_attn.q_proj.weight": torch.ones(12, 12)}, model_type)
    with pytest.raises(InputError, match=r"norm\.weight: its shape is \[13\]; the architecture asks for \[12\]"):
        from_hugging_face(spec, theirs | {"model.norm.weight": torch.ones(13)}, model_type)
    spec, model_type, _ = LAYOUTS["bert"]
    theirs = to_hugging_face(spec, state(spec), model_type) | {"cls.predictions.decoder.bias": torch.ones(30)}
    with pytest.raises(InputError, match=r"decoder\.bias is not cls\.predictions\.bias, .*encoders of ours tie them"):
        from_hugging_face(spec, theirs, model_type)
    spec, model_type, _ = LAYOUTS["no segments"]
    types = {"bert.embeddings.token_type_embeddings.weight": torch.ones(2, 12)}
    with pytest.raises(InputError, match=r"token_type_embeddings\.weight is not all 0; .*segments = 2"):
        from_hugging_face(spec, to_hugging_face(spec, state(spec), model_type) | types, model_type)


def test_what_has_no_equal_there_is_refused() -> None:
    shared = replace(EXPERTS, experts=Routing(count=2, active=1, shared=8))
    for spec in (shared, replace(DECODER, window=4, full_every=2), replace(ENCODER, head_size=4)):
        assert model_types(spec) == ()
        with pytest.raises(UsageError, match="it has: none"):
            to_hugging_face(spec, state(spec), "llama")
    with pytest.raises(UsageError, match="'llama': no layout of this architecture; it has: qwen3"):
        to_hugging_face(NORMED, state(NORMED), "llama")
