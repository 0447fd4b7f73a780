"""A learner whose model lies on several ranks: each takes its rows of every batch, and all take the same step.

Parts weigh by what they say of all that is said on all ranks, so the gradient is that of the whole batch as one process
has it, but for the order of summation. Tensors go out whole and come in whole: a checkpoint does not know how many
ranks wrote it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from isoflop.data.batch import Batch
from isoflop.errors import InputError, UsageError
from isoflop.specs.engine import Engine
from isoflop.specs.recipe import Recipe
from isoflop.train import compiled, precision, sharded, task
from isoflop.train.engine import settle
from isoflop.train.learner import Learner
from isoflop.train.optim import Updater
from isoflop.train.parallel import Ranks
from isoflop.train.sharded import SharedUpdater

_RANDOM = "random."


class ParallelLearner(Learner):
    """One rank's share of a model in training; what it is asked, all ranks are asked.

    Attributes:
        team: the ranks.
    """

    def __init__(self, recipe: Recipe, *, peak_learning_rate: float, team: Ranks, engine: Engine | None = None) -> None:
        self.team, self.recipe, self._shape = team, recipe, recipe.model
        settled = engine or team.first(lambda: settle(recipe, team.device))
        super().__init__(recipe, peak_learning_rate=peak_learning_rate, engine=self._fitting(settled))

    def _fitting(self, engine: Engine) -> Engine:
        """The same for every rank: with parts of different sizes one would wait for an exchange that another skips.

        Raises:
            UsageError: what it was begun with, several processes cannot do.
        """
        if engine.precision in {"fp16", "fp8"}:
            raise UsageError(
                f'recipe: precision "{engine.precision}" on several processes is not supported; say "bf16" or "fp32"'
            )
        # "auto" does not compile: a compiler that fails on one of them could not be done without on the others.
        compiles = engine.compiled and self.recipe.compile is True
        return structs.replace(engine, compiled=compiles, rows=min(engine.rows, self.team.layout.micro_batch))

    def _make(self, engine: Engine) -> None:
        self.engine, self._shape, layout = engine, self.recipe.model, self.team.layout
        self.device = self.team.device
        precision.check(engine.precision, self.device)
        self.model, self._door, self._trained = sharded.laid(self.recipe, self.team)
        self.updater = (
            SharedUpdater(self.model, self.recipe, peak_learning_rate=self.peak_learning_rate, team=self.team)
            if layout.sharding == "zero1"
            else Updater(self.model, self.recipe, peak_learning_rate=self.peak_learning_rate)
        )
        self._parameters = list(self.model.parameters())
        self.scaler, self._cold = None, engine.compiled
        if engine.compiled:
            compiled.compile_blocks(self.model)

    @property
    def judged(self) -> nn.Module:
        """What an evaluation goes through."""
        return self._door

    def _accumulated(self, batch: Batch, notes: list[str]) -> float:
        """Nothing gives way here: a rank that took its batch again would leave the others waiting."""
        with compiled.quietly() if self._cold else nullcontext():
            loss_nats = self._gradients(batch)
        self._cold = False
        return loss_nats

    def _gradients(self, batch: Batch) -> float:
        """In parts, each weighted by its share of what all ranks say; torch averages over the ranks, hence `world`."""
        parts = list(batch.parts(self.engine.rows))
        said, world = self.team.total(batch.said)[0] or 1.0, self.team.data_world
        nats = torch.zeros((), dtype=torch.float64, device=self.device)
        for k, part in enumerate(parts):
            share = part.said / said
            with self._exchanging(last=k == len(parts) - 1):
                with precision.products(self.engine.precision, self.device):
                    loss, part_nats = task.loss(self.recipe, self._trained, part, self.device)
                self.laps.lap("forward_s")
                torch.autograd.backward(loss * (share * world))
            nats += part_nats.double() * share
            self.laps.lap("backward_s")
        if self.team.cut is not None:
            self.team.cut.complete(self._weights())
        return self.team.total(nats.item())[0]

    def _exchanging(self, *, last: bool) -> AbstractContextManager[object]:
        """DDP exchanges the sum of all parts once; shards exchange each part's, as whole gradients would not fit."""
        if last or not isinstance(self._trained, DistributedDataParallel):
            return nullcontext()
        waiting: AbstractContextManager[object] = self._trained.no_sync()
        return waiting

    def _clipped(self) -> float:
        """The norm of the whole gradient, wherever its shares lie."""
        if self.team.cut is None:
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.recipe.optimizer.clip_norm)
            return sharded.gathered(norm).item()
        norm = sharded.total_norm(self.model, self.team.cut)
        torch.nn.utils.clip_grads_with_norm_(self._parameters, self.recipe.optimizer.clip_norm, norm)
        return norm.item()

    def _weights(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Whole, and of use on the first rank alone; to be asked by all."""
        cut, leads, weights = self.team.cut, self.team.leads, self._weights()

        def kept(owner: str, value: Tensor) -> Tensor:
            whole = sharded.gathered(value.detach())
            if cut is None and not sharded.is_sharded(self.team.layout):
                return whole
            if cut is not None and self.team.data_rank == 0 and value.ndim:
                whole = cut.whole(owner, whole)
            return whole.cpu() if leads else whole.new_empty(0)

        states = self.updater.tensors()
        return {
            "model": {name: kept(name, weight) for name, weight in weights.items()},
            "optimizer": {name: kept(_owner(name, weights) or "", value) for name, value in states.items()}
            | self._random(),
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, dict[str, Tensor]], engine: Engine | None = None) -> None:
        """Take up what the first rank was given, of whatever number of ranks it is.

        Raises:
            InputError: it is another model's.
            UsageError: several processes cannot compute as it was begun.
        """
        if engine is not None:
            before, self.engine = self.engine, self._fitting(engine)
            precision.check(self.engine.precision, self.device)
            if before.compiled and not self.engine.compiled:  # the compiler had failed when it was saved
                compiled.uncompile(self.model)
        self.load_weights(tensors.get("model", {}))
        weights, states, random = self._weights(), {}, {}
        for name, whole in self._received(tensors.get("optimizer", {})):
            if name.startswith(_RANDOM):
                random[name] = whole.cpu()
                continue
            owner = _owner(name, weights)
            if owner is None:
                raise InputError(f"checkpoint: it holds {name}, of which this recipe's optimizer knows nothing")
            if not isinstance(self.updater, SharedUpdater) or self.updater.owns(owner):
                states[name] = self._share(owner, whole, weights[owner])
        self.updater.restore(states)
        self._set_random(random)

    @torch.no_grad()
    def load_weights(self, saved: dict[str, Tensor]) -> None:
        """Take up weights alone, those of the first rank.

        Raises:
            InputError: they are another model's.
        """
        weights = self._weights()

        def check() -> None:
            if {name: value.shape for name, value in saved.items()} != sharded.whole_shapes(self.recipe):
                raise InputError("checkpoint: its weights do not have the names and shapes of this recipe's model")

        self.team.first(check)
        for name, whole in self._received(saved):
            weights[name].copy_(self._share(name, whole, weights[name]))

    def _share(self, owner: str, whole: Tensor, weight: Tensor) -> Tensor:
        """What this rank keeps of a weight, or of a state of it."""
        cut = self.team.cut
        return sharded.share_of(cut.piece(owner, whole) if cut is not None and whole.ndim else whole, weight)

    def _received(self, saved: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The first rank's tensors one by one, so that of a sharded model no two are whole at once."""
        kinds = self.team.first(lambda: [(name, tuple(value.shape), value.dtype) for name, value in saved.items()])
        for name, shape, dtype in kinds:
            yield name, self.team.spread(saved[name] if self.team.leads else None, shape=shape, dtype=dtype)


def _owner(state: str, weights: dict[str, nn.Parameter]) -> str | None:
    """The weight that a state is of: WEIGHT.KIND, or WEIGHT.PART.KIND where Muon takes it in parts."""
    name = state.rpartition(".")[0]
    if name in weights:
        return name
    whole = name.rpartition(".")[0]
    return whole if whole in weights else None
