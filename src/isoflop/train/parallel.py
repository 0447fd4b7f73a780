"""Several processes as one trainer: their process group, and what they ask each other.

They are started by torchrun, which sets RANK, WORLD_SIZE and the address at which they meet; gloo carries what lies on
CPUs and NCCL what lies on GPUs. Whatever decides the run's way (a stop, a checkpoint, an evaluation) is agreed upon, so
that none waits for what another does not do. Only the first writes.

A process that fails (memory ran out, the disk is full) leaves the reason where they met, and the others end with its
sentence and its exit code. One that dies without a word closes its sockets: the others' next exchange fails, and they
end with 75, so that torchrun (`--max-restarts`) or a person starts all again from the last checkpoint.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from isoflop.data.batch import Batch
from isoflop.errors import IsoflopError, PreemptedError, StoppedError, UsageError
from isoflop.specs.architecture import Decoder
from isoflop.specs.engine import Engine
from isoflop.specs.layout import Layout
from isoflop.specs.recipe import Recipe
from isoflop.train.cut import Cut
from isoflop.train.farewell import Farewell, again
from isoflop.train.learner import Learner, pick_device
from isoflop.train.team import Place, Team, laid_out

T = TypeVar("T")

_PATIENCE = timedelta(minutes=30)
"""Without a word from another; the first may be writing a checkpoint or reading shards for that long."""

_LOST = ("connection closed", "connection reset", "broken pipe", "timed out", "connection refused", "connectfull")


class Ranks(Team):
    """All processes of a run, between which a process group exists.

    Attributes:
        device: of this one.
        layout: how the model lies on them.
        farewell: what ended one of them; None before they have met.
        mesh: the groups in which weights are shared; None where all ranks are one such group and each has all.
        cut: how matrices are cut; None where they are not.
    """

    layout: Layout
    farewell: Farewell | None = None
    mesh: DeviceMesh | None = None
    cut: Cut | None = None

    def __init__(self, place: Place, *, device: torch.device, layout: Layout) -> None:
        self.rank, self.world, self.tensor = place.rank, place.world, layout.tensor
        self.device, self.layout = device, layout

    @contextmanager
    def answering(self) -> Iterator[None]:
        """An exchange inside that another process no longer answers ends with a sentence that says so."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            if not lost(error):
                raise
            if self.farewell is not None and (why := self.farewell.reason()) is not None:
                raise why from error
            said = str(error).splitlines()[0][:160]
            raise PreemptedError(
                f"process {self.rank} of {self.world}: another process of this run has ended or does not answer "
                f"({said}). Start all of them again to go on from the last checkpoint"
            ) from error

    def first(self, answer: Callable[[], T]) -> T:
        """Only the first is asked; the others get its answer, or its error."""
        said: list[Any] = [None, None]
        if self.leads:
            try:
                said[0] = answer()
            except IsoflopError as error:
                said[1] = (type(error), str(error))
                dist.broadcast_object_list(said, src=0)
                raise
        dist.broadcast_object_list(said, src=0)
        if said[1] is not None:
            raise again(*said[1])
        found: T = said[0]
        return found

    def any(self, flag: bool) -> bool:
        """Whether one of them says so."""
        said = torch.tensor(float(flag))
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said)

    def total(self, *values: float) -> list[float]:
        """Sums over all that share a batch."""
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) / self.tensor for value in sums]  # who takes the same rows says the same

    def share(self, batch: Batch) -> Batch:
        """Every so manieth row, from its own on."""
        return batch.rows(slice(self.data_rank, None, self.data_world))

    def spread(self, whole: Tensor | None, *, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor that the first has, on every one's device."""
        there = torch.empty(shape, dtype=dtype, device=self.device) if whole is None else whole.to(self.device)
        there = there.contiguous()
        dist.broadcast(there, src=0)
        return there

    def learner(self, recipe: Recipe, *, peak_learning_rate: float, engine: Engine | None = None) -> Learner:
        """A model in training, of which this process holds its share."""
        from isoflop.train.parallel_learner import ParallelLearner

        return ParallelLearner(recipe, peak_learning_rate=peak_learning_rate, team=self, engine=engine)


@contextmanager
def joined(recipe: Recipe, place: Place) -> Iterator[Ranks]:
    """Meet the others, and part from them at the end.

    A program that has a process group already keeps it.

    Raises:
        UsageError: so many processes cannot train this recipe.
        PreemptedError: another process has ended, or does not answer.
    """
    layout = laid_out(recipe, place.world)
    device = own_device(recipe, place)
    team, ours = Ranks(place, device=device, layout=layout), not dist.is_initialized()
    with team.answering():
        if ours:
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            _meet(backend, place)
        team.farewell = Farewell(rank=place.rank, world=place.world)
        if ours:
            team.farewell.listen()
        try:
            team.mesh = _mesh(layout, device)
            if team.mesh is not None and layout.tensor > 1:
                assert isinstance(recipe.model, Decoder)
                team.cut = Cut(recipe.model, group=team.mesh["tensor"].get_group())
            yield team
            if ours:
                dist.barrier()  # who left first would take the store away that others still speak to
        except Exception as error:
            _part(team.farewell, error, ours=ours)
            raise
        finally:
            team.farewell.end()
        if ours:
            dist.destroy_process_group()


def own_device(recipe: Recipe, place: Place) -> torch.device:
    """What this process trains on, and from now on means by "cuda".

    Raises:
        UsageError: this machine has fewer GPUs than processes.
    """
    device = pick_device(recipe)
    if device.type == "cuda":
        device = torch.device("cuda", own_number(place, gpus=torch.cuda.device_count()))
        torch.cuda.set_device(device)
    return device


def own_number(place: Place, *, gpus: int) -> int:
    """Of this process's GPU.

    Raises:
        UsageError: the machine has none for it.
    """
    if place.local >= gpus:
        raise UsageError(
            f"process {place.rank} is number {place.local}, counted from 0, of a machine with {gpus} "
            f"GPU{'s' if gpus > 1 else ''}; start torchrun with --nproc-per-node={gpus}"
        )
    return place.local


def _mesh(layout: Layout, device: torch.device) -> DeviceMesh | None:
    """Ranks that exchange most stand beside each other, and so are of one machine where that many fit into one."""
    sharded = layout.sharding in {"zero2", "zero3"}
    axes = {"replicate": layout.replicas} if layout.replicas > 1 else {}
    axes["shard"] = layout.data // layout.replicas
    if layout.tensor > 1:
        axes["tensor"] = layout.tensor
    elif not sharded:
        return None
    return init_device_mesh(device.type, tuple(axes.values()), mesh_dim_names=tuple(axes))


def _part(farewell: Farewell, error: Exception, *, ours: bool) -> None:
    """End for a reason that the others may not know."""
    farewell.end()
    if isinstance(error, PreemptedError):
        return  # all have agreed, or one has died: a group with dead members is not taken down
    if not isinstance(error, StoppedError):
        farewell.leave(error)
    if ours:
        dist.destroy_process_group()  # whoever waits for this process waits no more
        farewell.wait()


def _meet(backend: str, place: Place, *, environment: Mapping[str, str] = os.environ) -> None:
    """Form the group through the store that the environment names.

    Torchrun lends its workers its own store, in which after a restart the dead ones' addresses still stand: every
    attempt gets a corner of it. The number of the attempt is the same for all on one machine only; on several,
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment has the workers make a store of their own.
    """
    store = None
    alone = environment.get("LOCAL_WORLD_SIZE") == str(place.world)
    if alone and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        lent = dist.TCPStore(  # type: ignore[attr-defined]
            environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), None, False, _PATIENCE
        )
        store = dist.PrefixStore(  # type: ignore[attr-defined]
            f"isoflop attempt {environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", lent
        )
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world, timeout=_PATIENCE)


def lost(error: BaseException) -> bool:
    """Whether an error is that of an exchange whose other side is gone."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or ("gloo" in text and any(word in text for word in _LOST))
