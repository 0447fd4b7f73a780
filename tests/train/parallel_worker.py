"""One of several processes that train the same list of recipes: `python -m tests.train.parallel_worker CASES.json`.

They find each other by what torchrun would set. What the first of them saw goes into RESULTS beside the list.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from msgspec import Struct

from isoflop import files
from isoflop.errors import StoppedError
from isoflop.specs.recipe import Recipe
from isoflop.train import journal
from isoflop.train.events import Event
from isoflop.train.loop import train
from isoflop.train.team import place

RESULTS = "results.json"


class Case(Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        stop: after so many steps; None trains to the end.
        broken: what each process adds up with the others, it keeps to itself.
    """

    name: str
    recipe: Recipe
    folder: str
    stop: int | None = None
    broken: bool = False


def main() -> None:
    """Train them all."""
    torch.set_num_threads(1)
    journal._REPORT_S = -1.0
    source, here = Path(sys.argv[1]), place()
    dist.init_process_group("gloo", rank=here.rank, world_size=here.world)
    found: dict[str, Any] = {}
    for case in files.read_json(source, list[Case]):
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

    mend = break_exchange() if case.broken else []
    try:
        stop = (lambda: steps >= case.stop) if case.stop is not None else (lambda: False)
        run = train(case.recipe, folder=Path(case.folder), on_event=hear, should_stop=stop)
        assert run.loss_nats is not None
        seen.append(run.loss_nats)
    except StoppedError:
        pass
    finally:
        for undo in mend:
            undo()
    return seen


def break_exchange() -> list[Any]:
    """Not yet."""
    return []


if __name__ == "__main__":
    main()
