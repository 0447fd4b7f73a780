"""One of several processes that train the same list of recipes: `python -m tests.train.parallel_worker CASES.json`.

They find each other by what torchrun would set. What the first of them saw goes into RESULTS beside the list.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist
from msgspec import Struct
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from isoflop import files
from isoflop.errors import StoppedError
from isoflop.specs.recipe import Recipe
from isoflop.train import journal, sharded
from isoflop.train.cut import Entered
from isoflop.train.events import Event
from isoflop.train.loop import train
from isoflop.train.team import place

RESULTS = "results.json"


class Case(Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        stop: after so many steps; None trains to the end.
        broken: what each process adds up with the others, it keeps to itself.
        backend: of torch.compile, in place of the usual one.
    """

    name: str
    recipe: Recipe
    folder: str
    stop: int | None = None
    broken: bool = False
    backend: str | None = None


def main() -> None:
    """Train them all."""
    torch.set_num_threads(1)
    journal._REPORT_S = -1.0
    source, here = Path(sys.argv[1]), place()
    dist.init_process_group("gloo", rank=here.rank, world_size=here.world)
    found: dict[str, Any] = {}
    for case in files.read_json(source, list[Case]):
        gc.collect()
        gc.freeze()  # each run searches all objects for garbage: torch's need it no more
        found[case.name] = losses(case)
    if here.rank == 0:
        (source.parent / RESULTS).write_bytes(msgspec.json.encode(found))
    dist.destroy_process_group()


def losses(case: Case) -> list[float]:
    """Of every step, and of the final evaluation."""
    seen: list[float] = []
    steps = 0

    def hear(event: Event) -> None:
        nonlocal steps
        if event.kind == "step":
            assert event.loss_nats is not None
            seen.append(event.loss_nats)
            steps = event.step

    def stop() -> bool:
        return case.stop is not None and steps >= case.stop

    with suppress(StoppedError), broken() if case.broken else compiling(case.backend):
        run = train(case.recipe, folder=Path(case.folder), on_event=hear, should_stop=stop)
        assert run.loss_nats is not None
        seen.append(run.loss_nats)
    return seen


@contextmanager
def compiling(backend: str | None) -> Iterator[None]:
    """With another compiler than the usual one."""
    with pytest.MonkeyPatch.context() as patch:
        if backend is not None:
            patch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        yield


@contextmanager
def broken() -> Iterator[None]:
    """Gradients of other ranks do not arrive: each of what DDP, FSDP2's shards and its replicas exchange."""
    laid, reduce = sharded.laid, dist.all_reduce

    def lonely(*args: Any) -> Any:
        model, door, trained = laid(*args)
        if isinstance(trained, DistributedDataParallel):
            trained.register_comm_hook(None, _own_bucket)
        return model, door, trained

    def own_share(output: Tensor, input: Tensor, group: Any = None, **_: Any) -> None:
        output.copy_(input.chunk(dist.get_world_size(group))[dist.get_rank(group)])

    def own_sum(tensor: Tensor, op: Any = dist.ReduceOp.SUM, group: Any = None, **others: Any) -> Any:
        # Losses are summed in no group of their own, and cut matrices forward as they should be.
        forward = sys._getframe(1).f_code.co_name == "summed"
        return reduce(tensor, op, group, **others) if group is None or forward else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Entered, "backward", staticmethod(lambda ctx, gradient: (gradient, None)))
        patch.setattr(sharded, "laid", lonely)
        patch.setattr(dist, "all_reduce", own_sum)
        for name in ("reduce_scatter_single", "reduce_scatter_tensor"):  # as torch calls it from 2.13 on, and before
            patch.setattr(dist, name, own_share, raising=False)
        yield


def _own_bucket(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    kept: torch.futures.Future[Tensor] = torch.futures.Future()
    kept.set_result(bucket.buffer() / dist.get_world_size())
    return kept


if __name__ == "__main__":
    main()
