"""The closed form of memory against torch's memory tracker on the model that is trained."""

from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from isoflop.errors import UsageError
from isoflop.specs.architecture import Decoder
from isoflop.specs.hugging_face import read
from isoflop.specs.layout import Layout, LossHead, Precision, Recompute, Sharding, Training
from isoflop.specs.transformer import Transformer
from isoflop.tables import named
from isoflop.train.verify import check

Ways = Literal["ddp", "zero3"]

# As wide beside its sequence as large models are; the parts weigh as theirs do.
MODEL = Decoder(
    layers=3, width=1024, heads=16, kv_heads=4, head_size=64, hidden=2816, vocabulary=32000, context=4096, tied=False,
    qk_norm=False,
)  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("sharding", "devices", "recompute", "precision", "loss_head"),
    [
        ("ddp", 1, "none", "fp32", "eager"),
        ("ddp", 1, "full", "bf16", "chunked"),
        ("ddp", 8, "none", "bf16", "chunked"),
        ("ddp", 8, "selective", "bf16", "eager"),
        ("ddp", 8, "full", "fp32", "chunked"),
        ("zero3", 8, "none", "bf16", "eager"),
        ("zero3", 64, "selective", "fp32", "chunked"),
        ("zero3", 64, "full", "bf16", "chunked"),
        ("zero3", 128, "selective", "bf16", "eager"),
    ],
)
def test_the_closed_form_is_within_2_percent_of_the_tracker(
    sharding: Ways, devices: int, recompute: Recompute, precision: Precision, loss_head: LossHead, tied: bool
) -> None:
    layout = Layout(sharding=sharding, recompute=recompute, devices=devices, micro_batch=2, sequence=4096)
    found = check(replace(MODEL, tied=tied), layout, Training(precision=precision, loss_head=loss_head))
    assert abs(found.error) <= 0.02
    assert found.closed_bytes > 1e9


def test_qk_norm_counts_too() -> None:
    layout = Layout(sharding="zero3", recompute="none", devices=8, micro_batch=4, sequence=4096)
    small_head = replace(MODEL, qk_norm=True, vocabulary=512)
    found = check(small_head, layout, Training(precision="bf16", loss_head="chunked"))
    assert abs(found.error) <= 0.02


@pytest.mark.parametrize(
    ("layout", "training", "said"),
    [
        ({"tensor": 2}, {}, "only ddp and fsdp can be"),
        ({"accumulation": 2}, {}, "without tp, pp, cp, ep or accumulation"),
        ({}, {"method": "dpo"}, "only pretraining with AdamW"),
        ({}, {"precision": "fp16"}, "only fp32 and bf16"),
        ({}, {"loss_head": "fused"}, "only the eager and the chunked loss"),
    ],
)
def test_what_is_not_trained_here_is_not_verified(layout: dict[str, int], training: dict[str, str], said: str) -> None:
    base = Layout(sharding="zero3", recompute="none", devices=8, micro_batch=1, sequence=1024)
    with pytest.raises(UsageError, match=said):
        check(MODEL, replace(base, **layout), replace(Training(), **training))


@pytest.mark.parametrize(
    ("sharding", "recompute", "moment"),
    [("zero3", "full", "root"), ("ddp", "full", "forward"), ("ddp", "selective", "forward")],
)
def test_a_small_batch_of_a_llama_by_its_config_json_peaks_elsewhere(
    shared_data: Path, sharding: Sharding, recompute: Recompute, moment: str
) -> None:
    """With few tokens weights decide: FSDP's last gradients on their way, or the copies that autocast holds."""
    described = read(shared_data / "plan" / "configs" / "tinyllama-1.1b.json").architecture
    assert isinstance(described, Transformer)
    (block,) = described.decoder
    layout = Layout(sharding=sharding, recompute=recompute, devices=8, micro_batch=1, sequence=64)
    found = check(replace(described, decoder=(replace(block, layers=6),)), layout, Training())
    assert found.moment == moment
    assert found.error == pytest.approx(0, abs=0.02)


def test_another_model_than_our_decoder_is_not_verified() -> None:
    layout = Layout(sharding="zero3", recompute="none", devices=8, micro_batch=1, sequence=512)
    with pytest.raises(UsageError, match="the model is no dense decoder without windows that `isoflop train` builds"):
        check(named.model("gpt2").architecture, layout, Training())
