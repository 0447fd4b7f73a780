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
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from isoflop.model.build import Model, build
from isoflop.model.decoder import Decoder
from isoflop.model.initial import first_weight
from isoflop.model.parametrise import parametrise
from isoflop.model.rotary import rotary_table
from isoflop.specs.layout import Layout
from isoflop.specs.parametrisation import scales
from isoflop.specs.recipe import Recipe
from isoflop.train.compiled import blocks
from isoflop.train.cut import Cut
from isoflop.train.optim import Updater
from isoflop.train.parallel import Ranks
from isoflop.train.task import Through

Owners: TypeAlias = Mapping[str, int]
"""The rank that moves each weight, by its name."""


def is_sharded(layout: Layout) -> bool:
    """Whether a rank keeps only a share of every weight."""
    return layout.sharding in {"zero2", "zero3"}


def laid(recipe: Recipe, team: Ranks) -> tuple[Model, Through, nn.Module]:
    """The model, the door everything goes through, and the same door for training.

    A sharded or cut model is made without weights. Each rank then draws the first weights in the order of one process
    and with its seed, one whole weight at a time on the CPU, and keeps its share: equal to one process's to the bit,
    without a word between the ranks, and never whole in one place.
    """
    sharded = is_sharded(team.layout)
    if sharded or team.cut is not None:
        model = _in_shares(recipe, team)
        door = Through(model)
        if sharded:
            fully_shard(door, mesh=_data(team), reshard_after_forward=team.layout.sharding == "zero3")
        model.to_empty(device=team.device)
        _draw(model, recipe, team.cut)
    else:
        whole = build(recipe.model, seed=recipe.seed, device=team.device, recompute=recipe.recompute)
        model, door = whole, Through(whole)
    if isinstance(model, Decoder):  # no other has rules
        parametrise(model, scales(recipe.parametrisation, recipe.model))
    return model, door, door if sharded else _replicated(door, team)


def _in_shares(recipe: Recipe, team: Ranks) -> Model:
    """Without weights, cut and its blocks sharded where the layout says so."""
    model = build(recipe.model, seed=recipe.seed, device="meta", recompute=recipe.recompute)
    if team.cut is not None:
        assert isinstance(model, Decoder)
        team.cut.apply(model)
    if is_sharded(team.layout):
        for block in list(blocks(model)):
            fully_shard(block, mesh=_data(team), reshard_after_forward=team.layout.sharding == "zero3")
    return model


def _replicated(door: Through, team: Ranks) -> DistributedDataParallel:
    # The rotary table is computed, not learned: without this it would be sent at every forward pass. The argument for
    # it has another name from torch 2.13 on.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        door, ["model.table"]
    )
    # As views, or gradients would be there twice.
    return DistributedDataParallel(door, process_group=data_group(team), gradient_as_bucket_view=True)


def _data(team: Ranks) -> DeviceMesh:
    """The ranks that share weights without cutting them."""
    assert team.mesh is not None
    return team.mesh["replicate", "shard"] if team.layout.replicas > 1 else team.mesh["shard"]


def data_group(team: Ranks) -> dist.ProcessGroup | None:
    """The ranks that each have everything, or the same cut of it; None where these are all."""
    return team.mesh["shard"].get_group() if team.mesh is not None else None


@torch.no_grad()
def _draw(model: Model, recipe: Recipe, cut: Cut | None) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    if isinstance(model, Decoder):
        a = model.spec
        model.table.copy_(rotary_table(a.context, a.head_size, a.rope_theta, a.rope_scaling))
    shapes = whole_shapes(recipe)
    for name, weight in model.named_parameters():
        whole = torch.empty(shapes[name])
        first_weight(model.spec, name, whole, generator)
        piece = cut.piece(name, whole) if cut is not None else whole
        weight.copy_(share_of(piece.to(weight.device), weight))


def whole_shapes(recipe: Recipe) -> dict[str, torch.Size]:
    """Of every weight as one process has it."""
    return {name: weight.shape for name, weight in build(recipe.model, seed=0, device="meta").named_parameters()}


def share_of(whole: Tensor, weight: Tensor) -> Tensor:
    """What this rank keeps of a tensor that all have, laid out as the weight is; all of it where that is whole."""
    if not isinstance(weight, DTensor) or whole.shape != weight.shape:
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of what the ranks have shares of, on all of them; to be asked by all."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def total_norm(model: nn.Module, cut: Cut | None) -> Tensor:
    """Of the whole gradient, wherever its shares lie; to be asked by all."""
    gradients: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            gradients[cut is not None and cut.cuts(name)].append(weight.grad)
    cuts, others = (gathered(get_total_norm(gradients[is_cut])) for is_cut in (True, False))
    return others if cut is None else cut.norm(cut=cuts, whole=others)


def owners(model: nn.Module, world: int) -> Owners:
    """Weights dealt out, the largest first and each to whoever has least: the same on every rank."""
    held, dealt = [0] * world, {}
    for name, weight in sorted(model.named_parameters(), key=lambda pair: (-pair[1].numel(), pair[0])):
        dealt[name] = held.index(min(held))
        held[dealt[name]] += weight.numel()
    return dealt


class SharedUpdater:
    """`Updater` over the weights that this rank owns; after each step every rank has all the new weights (ZeRO-1)."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, peak_learning_rate: float, team: Ranks) -> None:
        self._group, rank = data_group(team), team.data_rank
        self._owners = owners(model, team.data_world)
        self._weights = dict(model.named_parameters())
        mine = {name for name, owner in self._owners.items() if owner == rank}
        self._own = Updater(model, recipe, peak_learning_rate=peak_learning_rate, only=mine)
        self._rank = rank

    def step(self, *, share: float) -> None:
        """Move its own weights, and learn of the others'."""
        self._own.step(share=share)
        with torch.no_grad():
            told = [self._tell(weight.data, self._owners[name], wait=False) for name, weight in self._weights.items()]
        for each in told:
            assert each is not None
            each.wait()
        for weight in self._weights.values():
            weight.grad = None

    def _tell(self, tensor: Tensor, owner: int, *, wait: bool = True) -> dist.Work | None:
        src = owner if self._group is None else dist.get_global_rank(self._group, owner)
        told: dist.Work | None = dist.broadcast(tensor, src=src, group=self._group, async_op=not wait)
        return told

    def tensors(self) -> dict[str, Tensor]:
        """All states, on the first of the ranks that share them; to be asked by all."""
        own = self._own.tensors()
        kinds: list[dict[str, tuple[tuple[int, ...], torch.dtype]]] = [
            {} for _ in range(dist.get_world_size(self._group))
        ]
        described = {name: (tuple(value.shape), value.dtype) for name, value in own.items()}
        dist.all_gather_object(kinds, described, group=self._group)
        device, found = next(iter(self._weights.values())).device, {}
        for owner, held in enumerate(kinds):
            for name, (shape, dtype) in held.items():
                # A count of steps lies on the CPU, whose group takes it there.
                whole = own[name].to(device) if owner == self._rank else torch.empty(shape, dtype=dtype, device=device)
                self._tell(whole, owner)
                # Who writes has room for its own share on the device, not for all of them.
                found[name] = whole.new_empty(0) if self._rank else whole if owner == 0 else whole.cpu()
        return found

    def owns(self, weight: str) -> bool:
        """Whether this rank moves it."""
        return self._owners[weight] == self._rank

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the states of its own weights."""
        self._own.restore(tensors)
