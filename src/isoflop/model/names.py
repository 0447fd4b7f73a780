"""What each of our weights is in Hugging Face's layouts: its name or names there, and which rows are which.

The names are those of published checkpoints, a tied head left out; the classes of transformers 5 that hold experts
stacked read them too.

Source: the weight names of each config.json's `model_type` in Hugging Face's transformers, 4.x and 5.x.
"""

from collections.abc import Iterator
from typing import NamedTuple

from isoflop.errors import UsageError
from isoflop.specs import architecture as specs


class Part(NamedTuple):
    """One weight of ours and what it is there.

    Attributes:
        ours: its name.
        theirs: the names of its rows there, top to bottom.
        rows: how many each has; none where all have as many.
        turned: how many of them, from the first, are rotary heads.
        stacked: the experts that ours has an axis of its own for.
        spare: rows there, above its own, that no token reaches.
    """

    ours: str
    theirs: tuple[str, ...]
    rows: tuple[int, ...] = ()
    turned: int = 0
    stacked: int = 0
    spare: int = 0


def model_types(spec: specs.Model) -> tuple[str, ...]:
    """The `model_type` of each layout that such a model has there; none where it has no equal."""
    if isinstance(spec, specs.EncoderDecoder):
        return ("t5",)
    if isinstance(spec, specs.Encoder):
        return ("bert", "roberta") if spec.heads * spec.head_size == spec.width else ()
    if spec.experts:
        alike = spec.full_every is None and not spec.experts.shared
        return ("qwen3_moe" if spec.qk_norm else "mixtral",) * alike
    if spec.qk_norm:
        return ("qwen3",)
    if spec.full_every is not None:
        return ()
    return ("llama",) if spec.window is None else ("mistral",)


def parts(spec: specs.Model, model_type: str) -> list[Part]:
    """Every weight of the model.

    Raises:
        UsageError: the model has no such layout.
    """
    if model_type not in model_types(spec):
        like = ", ".join(model_types(spec)) or "none"
        raise UsageError(f"model_type {model_type!r}: no layout of this architecture; it has: {like}")
    match spec:
        case specs.Decoder():
            return list(_decoder(spec, model_type))
        case specs.Encoder():
            return list(_encoder(spec, model_type))
        case specs.EncoderDecoder():
            return list(_encoder_decoder(spec))


def _decoder(spec: specs.Decoder, model_type: str) -> Iterator[Part]:
    """Llama's names, which Mistral's and Qwen3's are too."""
    qkv_rows = (spec.heads * spec.head_size, spec.kv_heads * spec.head_size, spec.kv_heads * spec.head_size)
    yield Part("embedding.weight", ("model.embed_tokens.weight",))
    for layer in range(spec.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        at = f"{theirs}self_attn."
        yield Part(f"{ours}attention_norm.weight", (f"{theirs}input_layernorm.weight",))
        yield Part(f"{ours}attention.qkv.weight", tuple(f"{at}{x}_proj.weight" for x in "qkv"), qkv_rows, turned=2)
        yield Part(f"{ours}attention.out.weight", (f"{at}o_proj.weight",))
        if spec.qk_norm:
            for gain, name in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
                yield Part(f"{ours}attention.{gain}", (f"{at}{name}.weight",), (spec.head_size,), turned=1)
        yield Part(f"{ours}mlp_norm.weight", (f"{theirs}post_attention_layernorm.weight",))
        if spec.experts:
            yield from _experts(f"{ours}mlp.", theirs, spec.experts.count, model_type)
        else:
            gate_up = tuple(f"{theirs}mlp.{x}_proj.weight" for x in ("gate", "up"))
            yield Part(f"{ours}mlp.gate_up.weight", gate_up)
            yield Part(f"{ours}mlp.down.weight", (f"{theirs}mlp.down_proj.weight",))
    yield Part("norm.weight", ("model.norm.weight",))
    if not spec.tied:
        yield Part("head.weight", ("lm_head.weight",))


def _experts(ours: str, theirs: str, count: int, model_type: str) -> Iterator[Part]:
    """Each expert's gate above its up, expert by expert."""
    mixtral = model_type == "mixtral"
    theirs += "block_sparse_moe." if mixtral else "mlp."
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    each = [f"{theirs}experts.{expert}." for expert in range(count)]
    yield Part(f"{ours}router.weight", (f"{theirs}gate.weight",))
    gate_up = tuple(f"{expert}{half}.weight" for expert in each for half in (gate, up))
    yield Part(f"{ours}gate_up", gate_up, stacked=count)
    yield Part(f"{ours}down", tuple(f"{expert}{down}.weight" for expert in each), stacked=count)


def _encoder(spec: specs.Encoder, model_type: str) -> Iterator[Part]:
    """BERT's names; RoBERTa's head is named otherwise, and its table of positions begins with two rows of padding."""
    bert = model_type == "bert"
    at, head = f"{model_type}.embeddings.", "cls.predictions.transform." if bert else "lm_head."
    yield Part("embedding.weight", (f"{at}word_embeddings.weight",))
    yield Part("positions.weight", (f"{at}position_embeddings.weight",), spare=0 if bert else 2)
    if spec.segments:
        yield Part("segments.weight", (f"{at}token_type_embeddings.weight",))
    yield Part("head_bias", ("cls.predictions.bias" if bert else "lm_head.bias",))
    for kind in ("weight", "bias"):
        yield Part(f"embedding_norm.{kind}", (f"{at}LayerNorm.{kind}",))
        for layer in range(spec.layers):
            ours, theirs = f"blocks.{layer}.", f"{model_type}.encoder.layer.{layer}."
            qkv = tuple(f"{theirs}attention.self.{x}.{kind}" for x in ("query", "key", "value"))
            yield Part(f"{ours}attention.qkv.{kind}", qkv)
            yield Part(f"{ours}attention.out.{kind}", (f"{theirs}attention.output.dense.{kind}",))
            yield Part(f"{ours}attention_norm.{kind}", (f"{theirs}attention.output.LayerNorm.{kind}",))
            yield Part(f"{ours}mlp.up.{kind}", (f"{theirs}intermediate.dense.{kind}",))
            yield Part(f"{ours}mlp.down.{kind}", (f"{theirs}output.dense.{kind}",))
            yield Part(f"{ours}mlp_norm.{kind}", (f"{theirs}output.LayerNorm.{kind}",))
        yield Part(f"transform.{kind}", (f"{head}dense.{kind}",))
        yield Part(f"transform_norm.{kind}", (f"{head}{'LayerNorm' if bert else 'layer_norm'}.{kind}",))


def _encoder_decoder(spec: specs.EncoderDecoder) -> Iterator[Part]:
    """T5's names; the biases of relative positions are the first block's there, and all blocks' in both."""
    yield Part("embedding.weight", ("shared.weight",))
    for stack, layers in (("encoder", spec.layers), ("decoder", spec.writing_layers)):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield Part(f"{stack}.relative.weight", (first,))
        for layer in range(layers):
            yield from _t5_block(f"{stack}.blocks.{layer}.", f"{stack}.block.{layer}.layer.", stack, spec.gated)
        yield Part(f"{stack}.norm.weight", (f"{stack}.final_layer_norm.weight",))
    if not spec.tied:
        yield Part("head.weight", ("lm_head.weight",))


def _t5_block(ours: str, theirs: str, stack: str, gated: bool) -> Iterator[Part]:
    yield Part(f"{ours}attention_norm.weight", (f"{theirs}0.layer_norm.weight",))
    yield Part(f"{ours}attention.qkv.weight", tuple(f"{theirs}0.SelfAttention.{x}.weight" for x in "qkv"))
    yield Part(f"{ours}attention.out.weight", (f"{theirs}0.SelfAttention.o.weight",))
    if stack == "decoder":
        cross = f"{theirs}1.EncDecAttention."
        yield Part(f"{ours}cross_norm.weight", (f"{theirs}1.layer_norm.weight",))
        yield Part(f"{ours}cross.query.weight", (f"{cross}q.weight",))
        yield Part(f"{ours}cross.key_value.weight", (f"{cross}k.weight", f"{cross}v.weight"))
        yield Part(f"{ours}cross.out.weight", (f"{cross}o.weight",))
    last = f"{theirs}{2 if stack == 'decoder' else 1}."
    mlp = f"{last}DenseReluDense."
    yield Part(f"{ours}mlp_norm.weight", (f"{last}layer_norm.weight",))
    yield Part(
        f"{ours}mlp.{'gate_up' if gated else 'up'}.weight",
        tuple(f"{mlp}{name}.weight" for name in (("wi_0", "wi_1") if gated else ("wi",))),
    )
    yield Part(f"{ours}mlp.down.weight", (f"{mlp}wo.weight",))
