"""The processes that train one model: who this one is among them, and what they can do together; here for one alone.

Nothing here imports torch. Of several processes `parallel.Ranks` is the same with a process group behind it; what calls
it does not know how many there are.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from isoflop.data.batch import Batch
from isoflop.errors import UsageError
from isoflop.specs.layout import Layout
from isoflop.specs.recipe import Recipe
from isoflop.specs.together import refusal

if TYPE_CHECKING:
    from isoflop.specs.engine import Engine
    from isoflop.train.learner import Learner

T = TypeVar("T")


_MEETING = ("MASTER_ADDR", "MASTER_PORT")


class Place(Struct, frozen=True, kw_only=True):
    """Which process of a launch this is, as torchrun and Slurm's wrappers around it say it.

    Attributes:
        rank: among all.
        world: how many there are.
        local: rank among those of this machine, and the number of its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Out of RANK, WORLD_SIZE and LOCAL_RANK; one process alone where they are not set.

    Raises:
        UsageError: they are no numbers, or do not go together, or nothing says where the processes meet.
    """
    found = {name: environment.get(name, usual) for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1"))}
    found["LOCAL_RANK"] = environment.get("LOCAL_RANK", found["RANK"])
    said = " ".join(f"{name}={value}" for name, value in found.items())
    if not all(value.isdigit() for value in found.values()) or not int(found["RANK"]) < int(found["WORLD_SIZE"]):
        raise UsageError(f"environment: {said} is no place among processes; start them with torchrun, or unset these")
    if found["WORLD_SIZE"] != "1" and (lacks := [name for name in _MEETING if not environment.get(name)]):
        raise UsageError(
            f"environment: {said}, but no {' and no '.join(lacks)}, where processes meet; start them with torchrun, or "
            "unset WORLD_SIZE to train on one"
        )
    return Place(rank=int(found["RANK"]), world=int(found["WORLD_SIZE"]), local=int(found["LOCAL_RANK"]))


def alone(what: str, environment: Mapping[str, str] = os.environ) -> None:
    """`what` starts processes of its own.

    Raises:
        UsageError: it was itself started as several.
    """
    if (world := place(environment).world) > 1:
        raise UsageError(
            f"environment: WORLD_SIZE={world}, but {what} starts the processes it needs itself; run it once, without "
            "torchrun"
        )


def laid_out(recipe: Recipe, world: int) -> Layout:
    """The recipe's layout for so many processes, however many it was planned for; DDP where it has none.

    Raises:
        UsageError: so many cannot train it so, or nobody can yet; says what can.
    """
    row = recipe.row
    planned = recipe.layout or Layout(
        sharding="ddp", recompute=recipe.recompute, devices=1, micro_batch=recipe.sequences, sequence=row.text
    )
    if refused := refusal(recipe, planned):
        raise UsageError(f"recipe: {refused}")
    copies = planned.replicas if planned.sharding in {"zero2", "zero3"} else 1
    if world % (copies * planned.tensor):
        degrees = " x ".join(f"{name} {n}" for name, n in (("tensor", planned.tensor), ("replicas", copies)) if n > 1)
        raise UsageError(f"recipe: layout has {degrees}, which does not divide the {world} processes started")
    sharing = world // planned.tensor
    for alike in map(recipe.within, recipe.phases):
        if alike.sequences % sharing:
            raise UsageError(
                f"recipe: batch_tokens are {alike.sequences} sequences, which {sharing} processes cannot share evenly; "
                f"take a multiple of {sharing * alike.row.text}, or another number of processes"
            )
    share = recipe.sequences // sharing
    at_once = min(share, planned.micro_batch if recipe.micro_tokens is None else recipe.micro_tokens // row.text)
    return Layout(
        sharding=planned.sharding,
        recompute=recipe.recompute,
        devices=world,
        micro_batch=at_once,
        sequence=planned.sequence,
        tensor=planned.tensor,
        replicas=copies,
        accumulation=-(-share // at_once),
    )


class Team:
    """All processes of a run; of this class there is one only, which asks itself.

    Attributes:
        rank: of this one.
        world: how many there are.
        tensor: how many of them take the same rows of a batch, with a cut of every matrix each.
        layout: how the model lies on them; None on one.
    """

    rank, world, tensor = 0, 1, 1
    layout: Layout | None = None

    @property
    def data_rank(self) -> int:
        """Whose rows of a batch this one takes: those with a cut of the same matrices stand beside each other."""
        return self.rank // self.tensor

    @property
    def data_world(self) -> int:
        """Among how many a batch is shared."""
        return self.world // self.tensor

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def first(self, answer: Callable[[], T]) -> T:
        """What the leading process answers; an error of it is everybody's."""
        return answer()

    def any(self, flag: bool) -> bool:
        """Whether one of them says so."""
        return flag

    def total(self, *values: float) -> list[float]:
        """Sums over all that share a batch."""
        return list(values)

    def share(self, batch: Batch) -> Batch:
        """Its rows of a batch that all have; with more processes than rows, the last ones have none."""
        return batch

    def answering(self) -> AbstractContextManager[None]:
        """An exchange inside that another process no longer answers ends with a sentence that says so."""
        return nullcontext()

    def learner(self, recipe: Recipe, *, peak_learning_rate: float, engine: "Engine | None" = None) -> "Learner":
        """A model in training, of which this process holds its share."""
        from isoflop.train.learner import Learner

        return Learner(recipe, peak_learning_rate=peak_learning_rate, engine=engine)


ALONE = Team()
