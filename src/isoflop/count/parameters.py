"""Parameters of an architecture by kind, without building it; equal to `sum(p.numel())` of the built model."""

from msgspec.structs import replace

from isoflop.specs.architecture import Architecture, Decoder, ParameterCount
from isoflop.specs.transformer import MLP, Attention, Block, LatentAttention, Norm, Transformer

NORM_VECTORS: dict[Norm, int] = {"rms": 1, "layer": 2, "gain": 1, "plain": 0}
NOTHING = ParameterCount(embedding=0, attention=0, mlp=0, norm=0, head=0)


def parameters(architecture: Architecture) -> ParameterCount:
    """Count every weight once; of a mixture of experts also those that one token leaves idle."""
    if isinstance(architecture, Decoder) and not architecture.experts:
        return of_decoder(architecture)
    return _transformer(architecture if isinstance(architecture, Transformer) else architecture.transformer())


def of_decoder(a: Decoder) -> ParameterCount:
    """The closed form of the dense decoder that we train, for the planner's many evaluations.

    Queries and the output projection are width x heads*head_size, keys and values width x kv_heads*head_size, the
    SwiGLU MLP has three matrices width x hidden, and nothing has a bias. Each block holds two RMSNorm weights of
    `width`, with `qk_norm` two more of `head_size` shared by all heads; one RMSNorm stands before the head.
    """
    query, key = a.heads * a.head_size, a.kv_heads * a.head_size
    return ParameterCount(
        embedding=a.vocabulary * a.width,
        attention=a.layers * 2 * a.width * (query + key),
        mlp=a.layers * 3 * a.width * a.hidden,
        norm=a.layers * (2 * a.width + (2 * a.head_size if a.qk_norm else 0)) + a.width,
        head=0 if a.tied else a.vocabulary * a.width,
        tied=a.tied,
    )


def _transformer(a: Transformer) -> ParameterCount:
    """Embedding and head, and the blocks between them, each set of shared weights once."""
    counted = outside_blocks(a)
    for stack in a.stacks:
        for block in stack:
            counted = plus(counted, of_block(block, width=a.width), times=1 if block.shared else block.layers)
    return counted


def plus(one: ParameterCount, other: ParameterCount, *, times: int = 1) -> ParameterCount:
    """Their sum kind by kind, `other` taken so many times; tied as `one` is."""
    kinds = (name for name in one.__struct_fields__ if name != "tied")
    return ParameterCount(tied=one.tied, **{k: getattr(one, k) + times * getattr(other, k) for k in kinds})


def outside_blocks(a: Transformer) -> ParameterCount:
    """Embedding, positions, head, and the norms around the stacks."""
    table = a.narrow.width if a.narrow else a.width
    beside = table if a.narrow and a.narrow.positions else a.width
    norm = NORM_VECTORS[a.embedding_norm] * beside if a.embedding_norm else 0
    norm += NORM_VECTORS[a.final_norm] * a.width if a.final_norm else 0
    projection = (1 if a.head_transform else 2) * a.width * table if a.narrow else 0
    projection_bias = a.width if a.narrow and a.narrow.bias else 0
    transform_vectors = 3 * table if a.head and a.head_transform else 0
    head_vectors = transform_vectors + (a.vocabulary if a.head and a.head_bias else 0)
    matrices = a.width * table if a.head and a.head_transform else 0
    matrices += a.vocabulary * table if a.head and not a.tied else 0
    return replace(
        NOTHING,
        embedding=a.vocabulary * table,
        position=(a.positions + a.segments) * beside,
        projection=projection + projection_bias,
        norm=len(a.stacks) * norm,
        head=matrices + head_vectors,
        vector=projection_bias + head_vectors,
        tied=a.tied and a.head,
    )


def of_block(block: Block, *, width: int) -> ParameterCount:
    """One block."""
    counted = replace(NOTHING, norm=block.norms * NORM_VECTORS[block.norm] * width)
    counted = plus(counted, of_attention(block.attention, width=width))
    if block.cross:
        counted = plus(counted, of_attention(block.cross, width=width))
    return plus(counted, of_mlp(block, width=width))


def of_attention(attention: Attention | LatentAttention, *, width: int) -> ParameterCount:
    """Projections, their biases and sinks, the norms of queries, keys or latent vectors, relative position biases."""
    if isinstance(attention, LatentAttention):
        return _latent(attention, width=width)
    query, key = attention.heads * attention.head_size, attention.kv_heads * attention.head_size
    vector = (query + 2 * key) * attention.qkv_bias + width * attention.out_bias + attention.heads * attention.sinks
    normed = {None: 0, "head": 2 * attention.head_size, "each": query + key}[attention.qk_norm]
    return replace(
        NOTHING,
        attention=2 * width * (query + key) + vector,
        vector=vector,
        norm=NORM_VECTORS[attention.qk_norm_kind] * normed,
        position=attention.heads * attention.relative_positions,
    )


def _latent(attention: LatentAttention, *, width: int) -> ParameterCount:
    """DeepSeek-V2 (arXiv:2405.04434), eq. 9 to 19: down to the ranks, RMSNorm, and up to the heads."""
    a = attention
    query, rank = a.heads * (a.plain_size + a.rotary_size), a.query_rank
    queries = width * query if rank is None else width * rank + rank * query
    down = a.key_value_rank + a.rotary_size
    up = a.key_value_rank * a.heads * (a.plain_size + a.value_size)
    vector = ((rank or 0) + down + width) if a.bias else 0
    return replace(
        NOTHING,
        attention=queries + width * down + up + a.heads * a.value_size * width + vector,
        vector=vector,
        norm=(rank or 0) + a.key_value_rank,
    )


def of_mlp(block: Block, *, width: int) -> ParameterCount:
    """The MLP, or all experts with their router; what a token leaves idle is `idle`."""
    if isinstance(block.mlp, MLP):
        size, vector = _dense(block.mlp, width=width)
        return replace(NOTHING, mlp=size, vector=vector)
    m = block.mlp
    expert, expert_vector = _dense(m.expert, width=width)
    shared, shared_vector = _dense(m.shared, width=width) if m.shared else (0, 0)
    router_vector = m.experts if m.router_bias else 0
    return replace(
        NOTHING,
        mlp=m.experts * expert + shared,
        router=width * m.experts + router_vector + (width if m.shared_gate else 0),
        idle=(m.experts - m.active) * expert,
        vector=m.active * expert_vector + shared_vector + router_vector,
    )


def _dense(mlp: MLP, *, width: int) -> tuple[int, int]:
    """All parameters of one MLP, and how many of them are biases."""
    into = 2 if mlp.gated else 1
    vector = into * mlp.hidden + width if mlp.bias else 0
    return (into + 1) * width * mlp.hidden + vector, vector
