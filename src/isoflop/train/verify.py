"""The closed form of `count.memory` beside torch's memory tracker, on the very model that `train` builds.

The model, its loss and its optimizer step run on fake tensors, which have shapes and no contents, in a process group of
as many ranks as asked for, none of which exists. What is tracked is torch's own accounting of every storage.

- Weights are laid over ranks as torch does it: FSDP2 with one group for each block and one for the rest, products in
  bf16 and sums of gradients in fp32; or DDP over autocast, its buckets made while the tracker looks.
- One step runs before it looks: the first optimizer step makes its state and would be told as a peak.
- fake CUDA devices abort a torch that was built without CUDA, so the model stands on a fake CPU, with as many logits in
  a chunk as on an accelerator.
- Not in it: what only an accelerator has (workspaces, the allocator's blocks), which is the margin.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from msgspec import Struct
from msgspec.structs import replace
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from isoflop.count.memory_head import CHUNK_ELEMENTS
from isoflop.count.memory_peak import memory
from isoflop.errors import UsageError
from isoflop.model.decoder import Decoder
from isoflop.specs import architecture as specs
from isoflop.specs.layout import Layout, Training
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import optim
from isoflop.train.objectives.causal import causal


class Check(Struct, frozen=True, kw_only=True):
    """Closed form beside tracker, bytes a device, without the margin.

    Attributes:
        moment: when the closed form has its peak.
        tracked_parts: as the tracker files them.
        error: closed form over tracker, less one.
    """

    moment: str
    closed_bytes: float
    tracked_bytes: float
    closed_parts: dict[str, float]
    tracked_parts: dict[str, float]
    error: float


def check(architecture: specs.Architecture, layout: Layout, training: Training) -> Check:
    """Track one step of the layout.

    Raises:
        UsageError: it is none that `train` can lay: another model than our decoder, other parallelism than ddp and
            fsdp, another precision than fp32 and bf16, another method, optimizer or loss head.
    """
    decoder = _buildable(architecture, layout, training)
    tracked = track(decoder, layout, training)
    closed = memory(decoder, layout, training)
    total = tracked.pop("Total")
    return Check(
        moment=closed.moment,
        closed_bytes=closed.tensors_bytes,
        tracked_bytes=total,
        closed_parts=closed.parts,
        tracked_parts=tracked,
        error=closed.tensors_bytes / total - 1,
    )


def _buildable(architecture: specs.Architecture, layout: Layout, training: Training) -> specs.Decoder:
    decoder = specs.as_decoder(architecture)
    plain = Training(precision=training.precision, loss_head=training.loss_head)
    alone = layout.tensor * layout.pipeline * layout.context * layout.expert * layout.replicas * layout.accumulation
    reasons = {
        "the model is no dense decoder without windows that `isoflop train` builds": decoder is None,
        "only ddp and fsdp can be, without tp, pp, cp, ep or accumulation": layout.sharding not in ("ddp", "zero3")
        or alone > 1,
        "only pretraining with AdamW can be": training != plain,
        "only fp32 and bf16 can be": training.precision not in ("fp32", "bf16"),
        "only the eager and the chunked loss can be": training.loss_head == "fused",
    }
    for reason, holds in reasons.items():
        if holds:
            raise UsageError(f"--verify: this cannot be tracked: {reason}; leave --verify out")
    assert decoder is not None
    return decoder


class _Objective(nn.Module):
    """Model and loss in one, so that every weight is used inside what DDP and FSDP wrap."""

    def __init__(self, model: Decoder, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        recipe = self.recipe
        z_loss = recipe.optimizer.z_loss
        return causal(self.model, inputs_BT, targets_BT, z_loss, recipe.loss_head, chunk_elements=int(CHUNK_ELEMENTS))[
            0
        ]


def track(architecture: specs.Decoder, layout: Layout, training: Training) -> dict[str, float]:
    """The tracker's peak of one step on one rank, bytes by its own categories, "Total" among them."""
    recipe = _recipe(architecture, layout, training)
    with _ranks(layout) as mesh, FakeTensorMode():
        model = Decoder(replace(architecture, context=layout.sequence), recipe.recompute)
        objective = _Objective(model, recipe)
        if mesh is not None:
            _shard(objective, mesh, recipe)
        optimizer = optim.adamw(model, recipe, peak_learning_rate=1e-3)
        tokens = torch.zeros((layout.micro_batch, layout.sequence), dtype=torch.int64)
        _step(objective, optimizer, tokens, autocast=mesh is None and recipe.precision == "bf16")
        gc.collect()
        tracker = MemTracker() if mesh is None else FSDPMemTracker(objective, optimizer)
        if mesh is None:
            tracker.track_external(model, optimizer)
        with tracker:
            wrapped = _replicated(objective) if mesh is None and layout.devices > 1 else objective
            _step(wrapped, optimizer, tokens, autocast=mesh is None and recipe.precision == "bf16")
        peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    return {str(getattr(kind, "value", kind)): float(size) for kind, size in peak.items()}


def _recipe(architecture: specs.Decoder, layout: Layout, training: Training) -> Recipe:
    """The recipe of such a run; torch's plain cross-entropy has no z-loss."""
    eager = training.loss_head == "eager"
    tokens = layout.micro_batch * layout.sequence
    return Recipe(
        name="verify",
        shards="",
        model=replace(architecture, context=layout.sequence),
        n_tokens=tokens,
        batch_tokens=tokens,
        optimizer=Optimizer(z_loss=0.0 if eager else Optimizer().z_loss),
        precision="bf16" if training.precision == "bf16" else "fp32",
        recompute=layout.recompute,
        loss_head="eager" if eager else "chunked",
    )


@contextmanager
def _ranks(layout: Layout) -> Iterator[DeviceMesh | None]:
    """Ranks that do nothing, and their mesh where states are sharded over them."""
    if layout.devices == 1 and layout.sharding == "ddp":
        yield None
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=layout.devices)
    try:
        yield init_device_mesh("cpu", (layout.devices,)) if layout.sharding == "zero3" else None
    finally:
        dist.destroy_process_group()


def _shard(objective: _Objective, mesh: DeviceMesh, recipe: Recipe) -> None:
    """FSDP2: a group for each block, one for embedding, head and last norm."""
    narrow = torch.bfloat16 if recipe.precision == "bf16" else None
    # The rotary table stays fp32, or its complex view would not exist.
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in objective.model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)


def _replicated(objective: _Objective) -> DistributedDataParallel:
    """DDP whose gradients are views of its buckets; nothing is sent."""
    wrapped = DistributedDataParallel(objective, gradient_as_bucket_view=True, init_sync=False)
    wrapped.register_comm_hook(None, _unsent)
    return wrapped


def _unsent(_: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def _step(objective: nn.Module, optimizer: torch.optim.Optimizer, tokens_BT: Tensor, *, autocast: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = objective(tokens_BT, tokens_BT)
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
