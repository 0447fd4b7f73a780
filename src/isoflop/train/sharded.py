"""A model's weights laid out on ranks: wrapped by torch's DDP or FSDP2, or an optimizer whose states are shared.

ddp      each rank has all; gradients are averaged (DistributedDataParallel)
zero1    likewise, but each weight's optimizer state lives on one rank alone, which tells the others the new weight
zero2    FSDP2: each rank keeps a share of weights, gradients and states; weights are whole from forward to backward
zero3    the same, but the weights of a block are whole only while it is at work
replicas of zero2 and zero3: so many copies of the sharded model, gradients averaged between them (hybrid sharding)

Sources: Rajbhandari et al. 2020 (arXiv:1910.02054); Zhao et al. 2023 (arXiv:2304.11277).
"""

from collections.abc import Mapping
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from isoflop.model.build import build
from isoflop.model.decoder import Decoder
from isoflop.model.initial import first_weight
from isoflop.model.parametrise import parametrise
from isoflop.model.rotary import rotary_table
from isoflop.specs.layout import Layout
from isoflop.specs.parametrisation import scales
from isoflop.specs.recipe import Recipe
from isoflop.train.optim import Updater
from isoflop.train.task import Through

Owners: TypeAlias = Mapping[str, int]
"""The rank that moves each weight, by its name."""


def is_sharded(layout: Layout) -> bool:
    """Whether a rank keeps only a share of every weight."""
    return layout.sharding in {"zero2", "zero3"}


def laid(recipe: Recipe, layout: Layout, device: torch.device) -> tuple[Decoder, Through, nn.Module]:
    """The model, the door everything goes through, and the same door for training.

    A sharded model is made without weights. Each rank then draws the first weights in the order of one process and with
    its seed, one whole weight at a time on the CPU, and keeps its share: equal to one process's to the bit, without a
    word between the ranks, and never whole in one place.
    """
    if not is_sharded(layout):
        whole = build(recipe.model, seed=recipe.seed, device=device, recompute=recipe.recompute)
        assert isinstance(whole, Decoder)
        door = Through(whole)
        # The rotary table is computed, not learned: without this it would be sent at every forward pass. The argument
        # for it has another name from torch 2.13 on.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            door, ["model.table"]
        )
        ddp = DistributedDataParallel(door, gradient_as_bucket_view=True)  # or gradients would be there twice
        parametrise(whole, scales(recipe.parametrisation, recipe.model))
        return whole, door, ddp
    model = build(recipe.model, seed=recipe.seed, device="meta", recompute=recipe.recompute)
    assert isinstance(model, Decoder)
    door = Through(model)
    mesh, again = _mesh(layout, device), layout.sharding == "zero3"
    for block in model.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=again)
    fully_shard(door, mesh=mesh, reshard_after_forward=again)
    model.to_empty(device=device)
    _draw(model, seed=recipe.seed)
    parametrise(model, scales(recipe.parametrisation, recipe.model))
    return model, door, door


def _mesh(layout: Layout, device: torch.device) -> DeviceMesh:
    """Ranks of one copy beside each other, so that they are of one machine where a copy fits into one."""
    shares = layout.devices // layout.replicas
    if layout.replicas == 1:
        return init_device_mesh(device.type, (shares,), mesh_dim_names=("shard",))
    return init_device_mesh(device.type, (layout.replicas, shares), mesh_dim_names=("replicate", "shard"))


@torch.no_grad()
def _draw(model: Decoder, *, seed: int) -> None:
    a, generator = model.spec, torch.Generator().manual_seed(seed)
    model.table.copy_(rotary_table(a.context, a.head_size, a.rope_theta, a.rope_scaling))
    for name, weight in model.named_parameters():
        whole = torch.empty(weight.shape)
        first_weight(a, name, whole, generator)
        weight.copy_(share_of(whole.to(weight.device), weight))


def share_of(whole: Tensor, weight: Tensor) -> Tensor:
    """What this rank keeps of a tensor that all have, laid out as the weight is; all of it where that is whole."""
    if not isinstance(weight, DTensor) or whole.shape != weight.shape:
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of what the ranks have shares of, on all of them; to be asked by all."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def owners(model: nn.Module, world: int) -> Owners:
    """Weights dealt out, the largest first and each to whoever has least: the same on every rank."""
    held, dealt = [0] * world, {}
    for name, weight in sorted(model.named_parameters(), key=lambda pair: (-pair[1].numel(), pair[0])):
        dealt[name] = held.index(min(held))
        held[dealt[name]] += weight.numel()
    return dealt


class SharedUpdater:
    """`Updater` over the weights that this rank owns; after each step every rank has all the new weights (ZeRO-1)."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, peak_learning_rate: float, rank: int, world: int) -> None:
        self._owners = owners(model, world)
        self._weights = dict(model.named_parameters())
        mine = {name for name, owner in self._owners.items() if owner == rank}
        self._own = Updater(model, recipe, peak_learning_rate=peak_learning_rate, only=mine)
        self._rank = rank

    def step(self, *, share: float) -> None:
        """Move its own weights, and learn of the others'."""
        self._own.step(share=share)
        with torch.no_grad():
            told = [dist.broadcast(w.data, src=self._owners[name], async_op=True) for name, w in self._weights.items()]
        for each in told:
            assert each is not None
            each.wait()
        for weight in self._weights.values():
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """All ranks' states; to be asked by all."""
        own = self._own.tensors()
        kinds: list[dict[str, tuple[tuple[int, ...], torch.dtype]]] = [{} for _ in range(dist.get_world_size())]
        dist.all_gather_object(kinds, {name: (tuple(value.shape), value.dtype) for name, value in own.items()})
        device, found = next(iter(self._weights.values())).device, {}
        for owner, held in enumerate(kinds):
            for name, (shape, dtype) in held.items():
                # A count of steps lies on the CPU, whose group takes it there.
                whole = own[name].to(device) if owner == self._rank else torch.empty(shape, dtype=dtype, device=device)
                dist.broadcast(whole, src=owner)
                # Who writes has room for its own share on the device, not for all of them.
                found[name] = whole.new_empty(0) if self._rank else whole if owner == 0 else whole.cpu()
        return found

    def owns(self, weight: str) -> bool:
        """Whether this rank moves it."""
        return self._owners[weight] == self._rank

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the states of its own weights."""
        self._own.restore(tensors)
