"""How a training step lies on its devices, and what of the training decides its memory."""

from math import inf
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from isoflop.errors import UsageError

Sharding: TypeAlias = Literal["ddp", "zero1", "zero2", "zero3"]
"""What of the model each device holds only its share of: nothing, the optimizer's state, its and the gradients,
everything (ZeRO stages, Rajbhandari et al. 2020, arXiv:1910.02054; zero3 is FSDP with resharding)."""

Recompute: TypeAlias = Literal["none", "selective", "full"]
"""What the backward pass computes again instead of keeping: nothing; all of a block but its queries, keys, values, the
MLP's gate and attention's output (about every second product, as torchtitan); whole blocks."""

Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "fp8", "int8"]
"""In what products are computed. fp16, bf16 and fp8 keep fp32 weights for the optimizer; int8 is for weights that are
not trained."""

OptimizerName: TypeAlias = Literal["adamw", "adamw-8bit", "muon", "sgd"]

LossHead: TypeAlias = Literal["eager", "chunked", "fused"]
"""Logits and their gradients whole, in chunks of tokens (what we train with), or never in memory (a fused kernel)."""

Method: TypeAlias = Literal["pretrain", "sft", "dpo", "ppo", "inference"]
"""What is trained: one model; one model (sft); a model beside a frozen reference on pairs of answers (dpo); a model and
its critic beside a frozen reference and a frozen reward model (ppo); nothing (inference)."""

_DEGREES = ("devices", "micro_batch", "sequence", "tensor", "pipeline", "context", "expert", "replicas")


class Layout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a step lies on its devices: devices = data parallel x context x tensor x pipeline.

    Attributes:
        sharding: of the model's states over the data-parallel and context-parallel devices of one replica.
        devices: as torch sees them, so two for a package of two dies.
        micro_batch: sequences a data-parallel rank takes at once; pairs of sequences for dpo.
        sequence: tokens of one sequence.
        tensor: devices that share every matrix (tensor parallel, with sequence parallel between the products).
        pipeline: stages of consecutive blocks, scheduled 1F1B.
        virtual_stages: groups of blocks a stage holds (interleaved 1F1B); more keep more activations.
        context: devices that share every sequence (context parallel).
        expert: devices that share the experts (expert parallel), out of the data-parallel ones.
        replicas: copies of a sharded model (hybrid sharding); for ddp every rank is one and this stays 1.
        accumulation: micro-batches of one optimizer step.
    """

    sharding: Sharding
    recompute: Recompute
    devices: int
    micro_batch: int
    sequence: int
    tensor: int = 1
    pipeline: int = 1
    virtual_stages: int = 1
    context: int = 1
    expert: int = 1
    replicas: int = 1
    accumulation: int = 1

    def __post_init__(self) -> None:
        for name in (*_DEGREES, "virtual_stages", "accumulation"):
            if getattr(self, name) < 1:
                raise UsageError(f"layout: {name} is {getattr(self, name)}; it must be at least 1")
        model = self.tensor * self.pipeline * self.context * self.replicas
        if self.devices % model:
            raise UsageError(
                f"layout: {self.devices} devices are not a multiple of tensor {self.tensor} x pipeline {self.pipeline} "
                f"x context {self.context} x replicas {self.replicas} = {model}"
            )
        if self.sequence % self.context:
            raise UsageError(f"layout: a sequence of {self.sequence} tokens does not divide by context {self.context}")

    @property
    def data(self) -> int:
        """Data-parallel ranks."""
        return self.devices // (self.tensor * self.pipeline * self.context)

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step of pretraining."""
        return self.data * self.micro_batch * self.accumulation * self.sequence

    def stretched(self, times: float) -> "Layout":
        """The same for sequences so many times as long: as many tokens at once, as far as whole sequences allow."""
        if times == 1:
            return self
        micro_batch = max(1, int(self.micro_batch / times))
        accumulation = max(1, round(self.micro_batch * self.accumulation / times / micro_batch))
        sequence = round(self.sequence * times)
        return replace(self, micro_batch=micro_batch, accumulation=accumulation, sequence=sequence)


class Training(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the training, beside its layout, decides memory.

    Attributes:
        adapter_rank: of LoRA adapters on every matrix of the blocks, the model itself frozen; None trains everything.
        said: tokens of each sequence that the loss is of, on average, and so all that passes the head; of an
            encoder-decoder what its decoder writes. None is as many as are read.
    """

    precision: Precision = "bf16"
    optimizer: OptimizerName = "adamw"
    loss_head: LossHead = "eager"
    method: Method = "pretrain"
    adapter_rank: int | None = None
    said: float | None = None

    def __post_init__(self) -> None:
        if self.said is not None and not 0 < self.said < inf:
            raise UsageError(f"training: {self.said} tokens of a sequence are said; it must be positive and finite")
        if self.adapter_rank is not None and self.adapter_rank < 1:
            raise UsageError(f"training: an adapter of rank {self.adapter_rank}; it must be at least 1")
        if self.precision == "int8" and self.adapter_rank is None and self.method != "inference":
            raise UsageError(
                "training: int8 weights cannot be trained; train adapters on them (--lora 16), or ask for inference"
            )
        if self.adapter_rank is not None and self.method == "inference":
            raise UsageError("training: inference has no adapters to train; leave --lora out")
