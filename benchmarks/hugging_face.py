"""Every family of `specs.hugging_face` against the class of `transformers` itself, on the meta device.

    python benchmarks/hugging_face.py        # needs torch and transformers; downloads nothing; two minutes

A family is tried at its class's own default sizes, cut to a few layers, and with each flag that its mapper reads; then
every row of our table of models in full. Parameters are held against the built class, and the work of a forward pass of
`TOKENS` tokens against torch's FlopCounterMode (families only: it runs the pass). Then what our own models say of the
same weights and tokens (`hugging_face_models.py`).
"""

import sys
from collections.abc import Iterator
from typing import Any

import hugging_face_models
import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from isoflop.count.flops import flops_per_token
from isoflop.count.parameters import parameters
from isoflop.specs.hugging_face import families, parse
from isoflop.tables import rows
from isoflop.tables.records import PublishedModel

# What a family's flags may be; each is tried alone on top of the defaults.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "llama": [{"attention_bias": True}, {"mlp_bias": True}, {"num_key_value_heads": 8}, {"head_dim": 64}],
    "mistral": [{"head_dim": 64}, {"sliding_window": None}],
    "granite": [{"attention_bias": True, "mlp_bias": True}],
    "seed_oss": [{"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}],
    "smollm3": [{"attention_bias": True, "mlp_bias": True}],
    "ernie4_5": [{"use_bias": True}],
    "qwen2": [{"num_key_value_heads": 4, "use_sliding_window": True}],
    "qwen3": [{"attention_bias": True, "num_key_value_heads": 4}],
    "gemma": [{"attention_bias": True}],
    "gemma2": [{"attention_bias": True}],
    "gemma3_text": [{"attention_bias": True}],
    "olmo": [{"attention_bias": True, "num_key_value_heads": 8}],
    "olmo2": [{"num_key_value_heads": 8}],
    "stablelm": [{"use_parallel_residual": True}, {"qk_layernorm": True}, {"use_qkv_bias": True}],
    "cohere": [{"use_qk_norm": True}, {"attention_bias": True}],
    "nemotron": [{"attention_bias": True, "mlp_bias": True}],
    "starcoder2": [{"use_bias": False}],
    "phi": [{"qk_layernorm": True}, {"num_key_value_heads": 8}],
    "gpt_neox": [{"attention_bias": False}, {"use_parallel_residual": False}],
    "glm": [{"attention_bias": False}],
    "glm4_moe": [{"use_qk_norm": True, "attention_bias": True, "first_k_dense_replace": 2}],
    "mixtral": [{"num_local_experts": 4}],
    "qwen2_moe": [{"decoder_sparse_step": 2}, {"mlp_only_layers": [0]}],
    "qwen3_moe": [{"attention_bias": True}],
    "llama4_text": [{"interleave_moe_layer_step": 2, "moe_layers": None}],
    "phimoe": [{"attention_bias": True, "lm_head_bias": True}],
    "granitemoeshared": [{"shared_intermediate_size": 512}],
    "deepseek_v2": [{"q_lora_rank": None}, {"attention_bias": True}, {"first_k_dense_replace": 2}],
    "deepseek_v3": [{"attention_bias": True}, {"first_k_dense_replace": 1}],
    "gpt2": [{"n_inner": 1000}],
    "gpt_bigcode": [{"multi_query": False}],
    "opt": [{"word_embed_proj_dim": 512}, {"do_layer_norm_before": False}, {"enable_bias": False}],
    "falcon": [
        {"new_decoder_architecture": True, "hidden_size": 4096, "num_attention_heads": 64, "num_kv_heads": 8},
        {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
        {"parallel_attn": False, "multi_query": False, "bias": True, "alibi": True},
        {"multi_query": False},
    ],
    "t5": [{"feed_forward_proj": "gated-gelu"}, {"tie_word_embeddings": False}, {"num_decoder_layers": 1}],
    "persimmon": [{"qk_layernorm": False}],
    "dots1": [{"attention_bias": True, "first_k_dense_replace": 2}],
    "albert": [{"embedding_size": 4096}],
    "electra": [{"embedding_size": 256}],
}  # fmt: skip
# Where a class's defaults alone build nothing.
SIZES: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "glm4_moe": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8, "head_dim": 128},
}
LAYERS = ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"]
LAYERS += ["encoder_layers", "decoder_layers"]
TOKENS = 64
OWN_MASK = {"bloom", "falcon", "mpt", "opt"}  # build their causal mask from nothing but the tokens
EVERY_EXPERT = {"llama4_text"}  # its class sends every token through every expert and weighs most with 0
MASKED = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "albert", "distilbert"}
# Names of DeepSeek-V3 and Falcon from before they had a class; DBRX's class does not build in transformers 5.23.
UNLISTED = {"kimi_k2", "RefinedWeb", "RefinedWebModel", "dbrx"}


NAMES = rows("models", PublishedModel)


def cases() -> Iterator[tuple[str, str, transformers.PretrainedConfig]]:
    """Each family at its default sizes, and with each of its variants; then every row of the table of models."""
    for family in sorted(set(families()) - UNLISTED):
        for changes in [{}, *VARIANTS.get(family, [])]:
            default = CONFIG_MAPPING[family]()
            short: dict[str, Any] = {name: 4 for name in LAYERS if isinstance(getattr(default, name, None), int)}
            if family == "gpt_neo":
                short = {"num_layers": 4, "attention_types": [[["global", "local"], 2]]}
            told = " ".join(f"{name}={value}" for name, value in changes.items())
            yield family, told, CONFIG_MAPPING[family](**{**short, **SIZES.get(family, {}), **changes})

    for name, row in NAMES.items():
        if row.config and row.config["model_type"] not in UNLISTED:
            fields = {key: value for key, value in row.config.items() if key != "model_type"}
            yield str(row.config["model_type"]), name, CONFIG_MAPPING[row.config["model_type"]](**fields)


def built(config: transformers.PretrainedConfig) -> nn.Module:
    """The real class with its language-model head; experts are computed for the tokens that chose them."""
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if config.model_type in MASKED:
        kind = AutoModelForMaskedLM
    config._experts_implementation = "batched_mm"
    with torch.device("meta"):
        model: nn.Module = kind.from_config(config, attn_implementation="eager")
    return model


def forward_flop(model: nn.Module, config: transformers.PretrainedConfig) -> int:
    """Operations of one forward pass, as torch counts them."""
    with torch.device("meta"):
        tokens = torch.zeros(1, TOKENS, dtype=torch.long)
        inputs: dict[str, Any] = {"input_ids": tokens}
        if config.is_encoder_decoder:
            inputs["decoder_input_ids"] = tokens[:, : TOKENS // 2]
        elif config.model_type not in MASKED | OWN_MASK:
            inputs |= {"position_ids": tokens, "attention_mask": torch.zeros(1, 1, TOKENS, TOKENS), "use_cache": False}
    with FlopCounterMode(display=False) as counter:
        model(**inputs)
    return int(counter.get_total_flops())


def compare(config: transformers.PretrainedConfig, *, work: bool) -> tuple[list[int], list[int]]:
    """Ours and theirs: parameters, and the work of a forward pass where asked for."""
    architecture = parse(config.to_dict(), where=config.model_type).architecture
    model = built(config)
    ours, theirs = [parameters(architecture).total], [sum(weight.numel() for weight in model.parameters())]
    if work:
        target = TOKENS // 2 if config.is_encoder_decoder else None
        counted = flops_per_token(architecture, sequence=TOKENS, target=target)
        ours.append(round(counted.forward * (TOKENS + counted.target)))
        theirs.append(forward_flop(model, config))
    return ours, theirs


def main() -> int:
    """Print one line a case, then our models'; end with 1 if any differs."""
    wrong, tried = set(), 0
    for family, told, config in cases():
        work = told not in NAMES and family not in EVERY_EXPERT
        try:
            ours, theirs = compare(config, work=work)
        except Exception as error:  # one class that does not build must not hide the others
            ours, theirs = [], [0]
            told += f" {type(error).__name__}: {str(error)[:120]}"
        tried += 1
        if ours != theirs:
            wrong.add(family)
        verdict = "" if ours == theirs else f"DIFFERS from {theirs}"
        print(f"{family:20} {told:60} {' '.join(f'{number:>20,}' for number in ours)} {verdict}", flush=True)
    known = len(set(families()) - UNLISTED)
    differ = ", ".join(sorted(wrong)) or "none"
    print(f"{tried} cases of {known} families, transformers {transformers.__version__}; differ: {differ}")
    return max(hugging_face_models.main(), 1 if wrong else 0)


if __name__ == "__main__":
    sys.exit(main())
