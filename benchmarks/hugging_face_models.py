"""Our models beside those of `transformers`, weight by weight and logit by logit.

    python benchmarks/hugging_face_models.py        # needs torch and transformers; downloads nothing; half a minute

A model of ours with random weights, gains and biases too, is written as a folder of its Hugging Face layout,
config.json and model.safetensors, and read by `from_pretrained`; both then read the same tokens in fp32. What
transformers writes of its own is read back and held against our weights bit by bit. `hugging_face.py` prints this after
its counts.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import transformers
from msgspec.structs import replace
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from isoflop.data.corrupt import NOTHING
from isoflop.model.build import Model, build
from isoflop.model.encoder import Encoder as EncoderModel
from isoflop.model.encoder_decoder import EncoderDecoder as EncoderDecoderModel
from isoflop.model.exchange import from_hugging_face, to_hugging_face
from isoflop.specs import rotary
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder, Routing
from isoflop.specs.architecture import Model as Spec
from isoflop.train.head_loss import HeadLoss

LENGTH = 160  # further than T5's last bucket of distances begins
BOUND = 1e-4  # of logits of order 1, in fp32

DECODER = Decoder(
    layers=4, width=128, heads=8, kv_heads=2, head_size=24, hidden=320, vocabulary=503, context=LENGTH, tied=False,
    qk_norm=False,
)  # fmt: skip
ENCODER = Encoder(layers=4, width=128, heads=4, head_size=32, hidden=320, vocabulary=503, context=LENGTH, segments=2)
T5 = EncoderDecoder(
    layers=3, decoder_layers=4, width=128, heads=6, head_size=24, hidden=320, vocabulary=503, context=LENGTH
)


class Case(NamedTuple):
    """One model, the layout it is written in, and what its config.json says besides sizes."""

    told: str
    spec: Spec
    model_type: str
    config: Mapping[str, Any] = MappingProxyType({})


def cases() -> Iterator[Case]:
    """Every layout, with each thing that may differ."""
    theta, C0 = 50_000.0, LENGTH // 4
    routing = Routing(count=6, active=2)
    normed = replace(DECODER, qk_norm=True)
    yield Case("grouped heads", DECODER, "llama")
    yield Case("tied, theta 50,000", replace(DECODER, tied=True, rope_theta=theta), "llama")
    scalings: list[tuple[rotary.RopeScaling, dict[str, Any]]] = [
        (rotary.Linear(factor=4.0), {}),
        (rotary.Dynamic(factor=4.0, original_context=C0), {}),
        (rotary.Yarn(factor=4.0, original_context=C0), {"original_max_position_embeddings": C0}),
        (
            rotary.Yarn(factor=4.0, original_context=C0, attention_factor=1.3, beta_fast=4.0, beta_slow=0.5),
            {"original_max_position_embeddings": C0, "attention_factor": 1.3, "beta_fast": 4.0, "beta_slow": 0.5},
        ),
        (
            rotary.Llama3(factor=4.0, original_context=C0),
            {"original_max_position_embeddings": C0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        ),
    ]
    for scaling, fields in scalings:
        kind = type(scaling).__name__.lower()
        rope = {"rope_type": kind, "rope_theta": DECODER.rope_theta, "factor": scaling.factor, **fields}
        # There the longest text that was trained on is max_position_embeddings, and the text at hand stretches it.
        longest = {"max_position_embeddings": C0} if kind == "dynamic" else {}
        yield Case(
            f"rope {kind}" + ", ramp of its own" * ("beta_fast" in fields),
            replace(DECODER, rope_scaling=scaling),
            "llama",
            {"rope_parameters": rope, **longest},
        )
    yield Case("window 20", replace(DECODER, window=20), "mistral", {"sliding_window": 20})
    yield Case("QK-norm", normed, "qwen3")
    windows = {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 0}
    kinds = ["sliding_attention", "full_attention"] * 2
    mixed = replace(normed, window=20, full_every=2)
    yield Case("window 20, every 2nd full", mixed, "qwen3", {**windows, "layer_types": kinds})
    yield Case("2 of 6 experts", replace(DECODER, experts=routing), "mixtral")
    yield Case("2 of 6 experts, QK-norm", replace(normed, experts=routing), "qwen3_moe", {"norm_topk_prob": True})
    yield Case("two segments", ENCODER, "bert")
    yield Case("no segments", replace(ENCODER, segments=0), "bert")
    yield Case("positions from 2", replace(ENCODER, segments=1, norm_epsilon=1e-5), "roberta")
    yield Case("1.0: tied, ReLU", replace(T5, tied=True, gated=False), "t5")
    yield Case("1.1: GELU with a gate", T5, "t5")


def config(case: Case) -> dict[str, Any]:
    """config.json, as the layout's own models have it."""
    spec = case.spec
    found: dict[str, Any] = {"model_type": case.model_type, "vocab_size": spec.vocabulary, "dtype": "float32"}
    if isinstance(spec, EncoderDecoder):
        found |= {"d_model": spec.width, "d_kv": spec.head_size, "d_ff": spec.hidden, "num_layers": spec.layers}
        found |= {"num_decoder_layers": spec.writing_layers, "num_heads": spec.heads, "dropout_rate": 0.0}
        found |= {"relative_attention_num_buckets": spec.buckets, "relative_attention_max_distance": spec.max_distance}
        found |= {"feed_forward_proj": "gated-gelu" if spec.gated else "relu", "layer_norm_epsilon": spec.norm_epsilon}
        return {**found, "tie_word_embeddings": spec.tied, "is_encoder_decoder": True, **case.config}
    found |= {"hidden_size": spec.width, "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads}
    found |= {"intermediate_size": spec.hidden, "max_position_embeddings": spec.context}
    if isinstance(spec, Encoder):
        roberta = case.model_type == "roberta"
        found |= {"max_position_embeddings": spec.context + 2 * roberta, "pad_token_id": 1 if roberta else 0}
        found |= {"type_vocab_size": max(1, spec.segments), "layer_norm_eps": spec.norm_epsilon, "hidden_act": "gelu"}
        return {**found, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **case.config}
    found |= {"num_key_value_heads": spec.kv_heads, "head_dim": spec.head_size, "rms_norm_eps": spec.norm_epsilon}
    found |= {
        "tie_word_embeddings": spec.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
    }
    if spec.experts:
        found |= {"num_experts_per_tok": spec.experts.active, "sliding_window": None}
        found |= {"moe_intermediate_size": spec.hidden, "num_experts": spec.experts.count}
        found |= {"num_local_experts": spec.experts.count}
    return {**found, **case.config}


def random_model(spec: Spec) -> Model:
    """With gains other than 1 and biases other than 0, or one that is forgotten would not show."""
    model, random = build(spec, seed=1), torch.Generator().manual_seed(2)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data += 0.3 * torch.randn(weight.shape, generator=random)
    return model


def theirs(folder: Path, case: Case, state: dict[str, Tensor]) -> nn.Module:
    """The class of transformers that reads the folder we write; every weight must find its place."""
    (folder / "config.json").write_text(json.dumps(config(case)))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    kind: Any = transformers.AutoModelForCausalLM
    if isinstance(case.spec, Encoder):
        kind = transformers.AutoModelForMaskedLM
    if isinstance(case.spec, EncoderDecoder):
        kind = transformers.AutoModelForSeq2SeqLM
    model, info = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    strange = {name: sorted(found) for name, found in info.items() if found}
    if strange:
        raise RuntimeError(f"{case.model_type}: from_pretrained says {strange}")
    loaded: nn.Module = model.eval()
    return loaded


class Difference(NamedTuple):
    """The largest of two models' logits, how large those are, their losses' and of what is written back.

    Attributes:
        same: whether what the other wrote is our weights to the bit.
    """

    logits: float
    spread: float
    loss: float
    same: bool


@torch.no_grad()
def compare(case: Case) -> Difference:
    """Ours and theirs on random text; one token in six is to be said where an encoder says masked ones."""
    spec, random = case.spec, torch.Generator().manual_seed(3)
    ours = random_model(spec)
    # Id 1 is RoBERTa's padding, which its class skips when it numbers places: text has none.
    text_BT = torch.randint(2, spec.vocabulary, (3, LENGTH + 1), generator=random)
    said_BT = torch.where(torch.rand(3, LENGTH, generator=random) < 1 / 6, text_BT[:, :-1], NOTHING)
    told: dict[str, Tensor] = {"input_ids": text_BT[:, :-1]}
    if isinstance(ours, EncoderModel):
        types_BT = (torch.arange(LENGTH) >= LENGTH // 3).long().expand(3, -1) if spec.segments > 1 else None  # type: ignore[union-attr]
        told |= {"labels": said_BT} | ({} if types_BT is None else {"token_type_ids": types_BT})
        x_BTD, targets = ours(text_BT[:, :-1], segments_BT=types_BT), said_BT
    elif isinstance(ours, EncoderDecoderModel):
        written = text_BT.flip(1)
        told |= {"decoder_input_ids": written[:, :-1], "labels": written[:, 1:].contiguous()}
        x_BTD, targets = ours(text_BT[:, :-1], written[:, :-1]), written[:, 1:]
    else:
        # Their causal class shifts labels itself and says nothing of the last token.
        x_BTD, targets = ours(text_BT[:, :-1]), torch.cat((text_BT[:, 1:-1], torch.full((3, 1), NOTHING)), 1)
        told |= {"labels": text_BT[:, :-1]}
    logits = ours.logits(x_BTD)
    _, nats = HeadLoss().chosen(ours, x_BTD, targets)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = theirs(folder, case, to_hugging_face(spec, ours.state_dict(), case.model_type))
        found = other(**told)
        other.save_pretrained(folder / "again")  # type: ignore[operator]
        back = from_hugging_face(spec, load_file(folder / "again" / "model.safetensors"), case.model_type)
    return Difference(
        logits=float((logits - found.logits).abs().max()),
        spread=float(logits.std()),
        loss=abs(float(nats) - float(found.loss)),
        same=all(torch.equal(weight, back.pop(name)) for name, weight in ours.state_dict().items()) and not back,
    )


def main() -> int:
    """Print one line a case; end with 1 if any differs."""
    wrong = []
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"\nOur models beside transformers {transformers.__version__}, fp32, {LENGTH} tokens")
    print(f"{'layout':10} {'':28} {'logits differ by':>16} {'of spread':>10} {'loss by':>9}  written back")
    for case in cases():
        found = compare(case)
        good = found.logits < BOUND and found.loss < BOUND and found.same
        if not good:
            wrong.append(f"{case.model_type} ({case.told})")
        numbers = f"{found.logits:16.1e} {found.spread:10.2f} {found.loss:9.1e}"
        told = "the same bits" if found.same else "OTHER BITS"
        print(f"{case.model_type:10} {case.told:28} {numbers}  {told} {'' if good else 'DIFFERS'}", flush=True)
    print(f"differ by more than {BOUND}: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
