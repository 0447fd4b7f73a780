"""Parameter counts beside those of other tools, and the time of 10,000 of them.

    python benchmarks/count.py               # llm-analysis joins where it is installed

Every model of our table is counted by

    isoflop         count.parameters
    llm-analysis    0.2.2, LLMAnalysis.get_num_params_total
    eleutherai      EleutherAI's cookbook, calc_transformer_params.py at 69516ad: (V + T) d + 2 (1 + K/H) L d^2
                    + 13 L d + m r L E d^2 (m matrices of an MLP that is r times as wide, r a whole number) + L d E
    megatron        Megatron-LM 00caa53, theoretical_memory_usage.py: 2 (1 + K/H) H S d, or latent attention by its
                    shapes, + 2 d (g f + n) a dense layer, 2 d (g (E f_e + f_s) + n) one of experts, + n d
                    + V d, twice untied (g 3/2 gated, 1 plain; n 1 for RMSNorm, 2 for LayerNorm)

The two formulas are written here from their description. Each is given what it can be told; what it cannot (latent
attention, experts of another width than the dense layers, encoders) is what it then gets wrong.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop import count
from isoflop.specs.architecture import Decoder
from isoflop.specs.transformer import MLP, Attention, Experts, LatentAttention, Transformer
from isoflop.tables import rows
from isoflop.tables.records import PublishedModel

EVALUATIONS = 10_000


class Shape(Struct, frozen=True, kw_only=True):
    """What two of the other tools can be told of a model."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    gated: bool
    experts: int
    vocabulary: int
    context: int
    tied: bool


Peer: TypeAlias = Callable[[Transformer, Shape], float]


def shape(model: Transformer) -> Shape:
    """What two of the tools can be told; the last kind of block stands for all, in mixtures the one with experts."""
    block = model.blocks[-1]
    a, m = block.attention, block.mlp
    mlp = m if isinstance(m, MLP) else m.expert
    latent = isinstance(a, LatentAttention)
    return Shape(
        layers=model.layers,
        width=model.width,
        heads=a.heads,
        kv_heads=a.heads if isinstance(a, LatentAttention) else a.kv_heads,
        head_size=model.width // a.heads if latent else a.head_size,  # type: ignore[union-attr]
        hidden=mlp.hidden,
        gated=mlp.gated,
        experts=1 if isinstance(m, MLP) else m.experts,
        vocabulary=model.vocabulary,
        context=model.context or 2048,
        tied=model.tied,
    )


def eleutherai(_: Transformer, s: Shape) -> float:
    """The embedding counts once, as if tied, and positions count always."""
    wide = max(1, round(s.hidden / s.width))
    mlp = (3 if s.gated else 2) * wide * s.layers * s.experts * s.width**2
    router = s.layers * s.width * s.experts if s.experts > 1 else 0
    attention = 2 * (1 + s.kv_heads / s.heads) * s.layers * s.width**2
    return (s.vocabulary + s.context) * s.width + attention + 13 * s.layers * s.width + mlp + router


def megatron(model: Transformer, _: Shape) -> float:
    """No biases, no router, no norms beside two a block."""
    d, blocks = model.width, 0.0
    for block in model.blocks:
        vectors = 1 if block.norm == "rms" else 2
        blocks += block.layers * (_attention(block.attention, d, vectors) + 2 * d * (_hidden(block.mlp) + vectors))
    last = 1 if model.final_norm == "rms" else 2
    return blocks + last * d + (1 if model.tied else 2) * model.vocabulary * d


def _attention(a: Attention | LatentAttention, d: int, vectors: int) -> float:
    if isinstance(a, Attention):
        return 2 * d * (a.heads + a.kv_heads) * a.head_size
    head = a.plain_size + a.rotary_size
    queries = d * a.heads * head if a.query_rank is None else a.query_rank * (d + a.heads * head + vectors)
    keys = a.key_value_rank * (d + a.heads * (a.plain_size + a.value_size) + vectors) + d * a.rotary_size
    return queries + keys + a.heads * a.value_size * d


def _hidden(mlp: MLP | Experts) -> float:
    if isinstance(mlp, Experts):
        return mlp.experts * _hidden(mlp.expert) + (_hidden(mlp.shared) if mlp.shared else 0)
    return (1.5 if mlp.gated else 1.0) * mlp.hidden


def llm_analysis() -> Peer | None:
    """The package's count, or None where it is not installed."""
    try:
        from llm_analysis.analysis import LLMAnalysis
        from llm_analysis.config import ModelConfig, get_gpu_config_by_name
        from llm_analysis.logger import logger
    except ImportError:
        return None
    logger.setLevel("ERROR")
    device = get_gpu_config_by_name("a100-sxm-80gb")

    def counted(_: Transformer, s: Shape) -> float:
        config = ModelConfig(
            name="model",
            num_layers=s.layers,
            n_head=s.heads,
            hidden_dim=s.width,
            vocab_size=s.vocabulary,
            max_seq_len=s.context,
            num_key_value_heads=s.kv_heads,
            ffn_embed_dim=s.hidden,
            expansion_ratio=s.hidden / s.width,
            moe_num_experts=s.experts,
        )
        return float(LLMAnalysis(config, device, flops_efficiency=0.5).get_num_params_total())

    return counted


def seconds(evaluate: Callable[[], Any]) -> float:
    """The least of three times."""
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        evaluate()
        spent.append(time.perf_counter() - start)
    return min(spent)


def timings(peers: dict[str, Peer]) -> dict[str, float]:
    """Seconds of 10,000 decoders of different widths and depths; ours as arrays, work included, and one by one."""
    layers, widths = (grid.ravel() for grid in np.meshgrid(np.arange(1, 101), 128 * np.arange(1, 101)))
    one = Decoder(layers=1, width=128, heads=8, kv_heads=8, head_size=64, hidden=512, vocabulary=32_000, context=4096)
    pairs = zip(layers.tolist(), widths.tolist(), strict=True)
    many = [replace(one, layers=depth, width=width) for depth, width in pairs]
    models = [(each.transformer(), shape(each.transformer())) for each in many]
    return {
        "isoflop, arrays": seconds(lambda: count.sweep(one, layers=layers, width=widths, sequence=4096).total),
        "isoflop, one by one": seconds(lambda: [count.parameters(each).total for each in many]),
        **{name: seconds(partial(_all, peer, models)) for name, peer in peers.items()},
    }


def _all(peer: Peer, models: list[tuple[Transformer, Shape]]) -> list[float]:
    return [peer(*model) for model in models]


def main() -> int:
    """Two tables; ends with 1 if one of our counts is off."""
    peers: dict[str, Peer] = {"eleutherai": eleutherai, "megatron": megatron}
    if (installed := llm_analysis()) is not None:
        peers = {"llm-analysis": installed, **peers}
    errors: dict[str, list[float]] = {name: [] for name in ("isoflop", *peers)}
    print(f"{'model':26} {'parameters':>16} " + " ".join(f"{name:>13}" for name in errors))
    for name, row in rows("models", PublishedModel).items():
        model = row.architecture
        parts = model if isinstance(model, Transformer) else model.transformer()
        told = shape(parts)
        counts = {"isoflop": float(count.parameters(model).total)} | {
            tool: peer(parts, told) for tool, peer in peers.items()
        }
        for tool, number in counts.items():
            errors[tool].append(number / row.n_params - 1)
        print(f"{name:26} {row.n_params:>16,} " + " ".join(f"{each[-1]:>+13.3%}" for each in errors.values()))
    for label, value in (("median", statistics.median), ("largest", max)):
        line = " ".join(f"{value([abs(e) for e in each]):>13.3%}" for each in errors.values())
        print(f"{label + ' error':26} {len(errors['isoflop']):>9} models {line}")
    exact = " ".join(f"{sum(e == 0 for e in each):>13}" for each in errors.values())
    print(f"{'exact':26} {'':>16} {exact}\n")
    for tool, spent in timings(peers).items():
        print(f"{tool:26} {1e3 * spent:>10.1f} ms for {EVALUATIONS:,} evaluations")
    return 1 if any(errors["isoflop"]) else 0


if __name__ == "__main__":
    sys.exit(main())
