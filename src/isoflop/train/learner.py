"""Model and optimizer as one thing that takes steps, and can be saved and restored to the bit."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from msgspec import Struct, structs

from isoflop.data.batch import Batch
from isoflop.errors import InputError, UsageError
from isoflop.model.build import build
from isoflop.model.decoder import Decoder
from isoflop.model.parametrise import parametrise
from isoflop.model.rotary import rotary_table
from isoflop.specs import architecture as specs
from isoflop.specs.engine import Engine
from isoflop.specs.parametrisation import scales
from isoflop.specs.recipe import Recipe
from isoflop.train import compiled, micro, precision, task
from isoflop.train.engine import settle
from isoflop.train.optim import Moves, Updater
from isoflop.train.precision import Scaler
from isoflop.train.schedule import multiplier
from isoflop.train.spent import Laps

_RANDOM, _SCALER = "random.", "scaler."


class Step(Struct, frozen=True, kw_only=True):
    """What one optimizer step came to.

    Attributes:
        loss_nats: cross-entropy per token of its batch.
        grad_norm: of the whole batch's gradient, before clipping.
        rows: sequences whose activations existed at once.
        skipped: the gradient was not finite, and the weights stayed as they were.
        notes: what had to give way for it, a sentence each: smaller parts, a lower scale, no compiler.
    """

    loss_nats: float
    grad_norm: float
    rows: int
    skipped: bool = False
    notes: tuple[str, ...] = ()


class Learner:
    """A model in training.

    Attributes:
        recipe: what it is trained by.
        device: where it lives.
        engine: what it computes with, as settled; changes when memory runs out or a compiler fails.
        model: the model.
        peak_learning_rate: what the schedule is a share of.
        scaler: of losses, in fp16 only.
        laps: where the time of its steps goes, `laps.spent`.
    """

    def __init__(self, recipe: Recipe, *, peak_learning_rate: float, engine: Engine | None = None) -> None:
        """Make it.

        Args:
            engine: as settled before; None settles it.

        Raises:
            UsageError: the device cannot compute as the recipe says.
        """
        self.recipe, self._shape = recipe, recipe.model
        self.device = pick_device(recipe)
        self.peak_learning_rate = peak_learning_rate
        self.laps = Laps(self.device)
        self._make(engine or settle(recipe, self.device))

    def _make(self, engine: Engine) -> None:
        recipe = self.recipe
        self.engine, self._shape = engine, recipe.model
        for name in ("model", "updater", "scaler", "_parameters"):  # two models at once may not fit
            self.__dict__.pop(name, None)
        self.model = build(recipe.model, seed=recipe.seed, device=self.device, recompute=recipe.recompute)
        if isinstance(self.model, Decoder):  # no other has rules
            parametrise(self.model, scales(recipe.parametrisation, recipe.model))
        if engine.precision == "fp8":
            precision.to_fp8(self.model)
        self.updater: Moves = Updater(self.model, recipe, peak_learning_rate=self.peak_learning_rate)
        self._parameters = list(self.model.parameters())
        self.scaler = Scaler(self.device, self._parameters) if engine.precision == "fp16" else None
        self._cold = engine.compiled  # the next step compiles
        if engine.compiled:
            compiled.compile_blocks(self.model)

    def enter(self, model: specs.Model) -> None:
        """Go on with another context and other positions, in parts of as many tokens as before."""
        rows = max(1, int(self.engine.rows * self._shape.context / model.context))
        self.engine = structs.replace(self.engine, rows=rows)
        self.stand(model)

    def stand(self, model: specs.Model) -> None:
        """Have that context and those positions, and parts as they are."""
        if model == self._shape:
            return
        assert isinstance(model, specs.Decoder)  # no other can change
        self._shape = model
        inside = next(part for part in self.model.modules() if isinstance(part, Decoder))
        table = rotary_table(model.context, model.head_size, model.rope_theta, model.rope_scaling)
        inside.spec, inside.table = model, table.to(inside.table)
        self._cold = self.engine.compiled  # other shapes are compiled anew

    @property
    def judged(self) -> torch.nn.Module:
        """What an evaluation goes through: the model, or what holds its shards together."""
        return self.model

    def evaluating(self) -> AbstractContextManager[object]:
        """The precision of training, and nothing compiled."""
        inside = ExitStack()
        inside.enter_context(precision.products(self.engine.precision, self.device))
        if self.engine.compiled:
            inside.enter_context(compiled.eagerly())
        return inside

    def learning_rate(self, step: int) -> float:
        """At a step counted from 0; Muon's own, where the recipe gives one, keeps the same share of its peak."""
        return self.peak_learning_rate * multiplier(self.recipe.schedule, step=step, steps=self.recipe.steps)

    def step(
        self, step: int, batch: Batch, accept: Callable[[float, float], bool] = lambda loss_nats, grad_norm: True
    ) -> Step:
        """One optimizer step, counted from 0, on one batch.

        Where memory runs out, the compiler fails or an fp16 gradient overflows, the same batch is taken again in
        another way; the step says so. A gradient that is not finite even then moves nothing.

        Args:
            accept: asked with loss and gradient norm; where it says no, nothing but the gradient's memory has changed.
        """
        notes: list[str] = []
        self.laps.begin()
        while True:
            loss_nats = self._accumulated(batch, notes)
            grad_norm = self._clipped()
            if not self._overflowed(loss_nats, grad_norm, notes):
                break
        skipped = not (accept(loss_nats, grad_norm) and math.isfinite(grad_norm))
        if skipped:
            self._forget()
        else:
            self.updater.step(share=multiplier(self.recipe.schedule, step=step, steps=self.recipe.steps))
        self.laps.lap("optimizer_s")
        self.laps.settle()
        rows = min(self.engine.rows, len(batch.inputs_ST))
        return Step(loss_nats=loss_nats, grad_norm=grad_norm, rows=rows, skipped=skipped, notes=tuple(notes))

    def _accumulated(self, batch: Batch, notes: list[str]) -> float:
        """Gradients of the whole batch into the weights, by whatever way succeeds; its loss in nats."""
        random = self._random()
        while True:
            try:
                with compiled.quietly() if self._cold else nullcontext():
                    loss_nats = self._gradients(batch)
                self._cold = False
                return loss_nats
            except Exception as error:
                notes.append(self._give_way(error, sequences=len(batch.inputs_ST)))
            # Only here the failed attempt's frames are gone, and with them its activations.
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self._forget()
            self._set_random(random)

    def _gradients(self, batch: Batch) -> float:
        """In parts, each weighted by what it says: the sums of the whole batch but for their order."""
        said, nats = batch.said or 1, torch.zeros((), dtype=torch.float64, device=self.device)
        for part in batch.parts(self.engine.rows):
            share = part.said / said
            with precision.products(self.engine.precision, self.device):
                loss, part_nats = task.loss(self.recipe, self.model, part, self.device)
            self.laps.lap("forward_s")
            loss = loss * share
            torch.autograd.backward(self.scaler.scaled(loss) if self.scaler else loss)
            nats += part_nats.double() * share
            self.laps.lap("backward_s")
        return nats.item()

    def _give_way(self, error: Exception, *, sequences: int) -> str:
        """Change what the error asks for, and say so; it is raised again where nothing is left to change."""
        rows = min(self.engine.rows, sequences)
        if micro.ran_out(error):
            if rows == 1:
                raise error
            self.engine = structs.replace(self.engine, rows=micro.halved(rows))
            self._cold = self.engine.compiled
            return (
                f"memory ran out with {rows} sequences at once: the batch is taken again, and the run goes on, with "
                f"{self.engine.rows} at once"
            )
        if self.engine.compiled:
            compiled.uncompile(self.model)
            self.engine, self._cold = structs.replace(self.engine, compiled=False), False
            return f"torch.compile failed ({compiled.reason(error)}): the run goes on without it"
        raise error

    def _clipped(self) -> float:
        """The gradient's norm before it was clipped."""
        if self.scaler:
            self.scaler.unscale()
        return torch.nn.utils.clip_grad_norm_(self._parameters, self.recipe.optimizer.clip_norm).item()

    def _overflowed(self, loss_nats: float, grad_norm: float, notes: list[str]) -> bool:
        """Whether it is the scale of fp16 losses that made the gradient infinite; it is lower then."""
        if self.scaler is None:
            return False
        before, finite = self.scaler.scale, math.isfinite(grad_norm)
        if not self.scaler.overflowed(finite=finite) or not math.isfinite(loss_nats):
            return False
        times = self.scaler.overflows
        notes.append(
            f"the gradient overflowed fp16 at a loss scale of {before:g}: the batch is taken again at "
            f"{self.scaler.scale:g} ({times} {'time' if times == 1 else 'times'} in this run)"
        )
        self._forget()
        return True

    def _forget(self) -> None:
        """Let the gradients go."""
        for weight in self._parameters:
            weight.grad = None

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Everything a resume needs, by file and name."""
        weights = dict(self.model.named_parameters())
        scaler = {_SCALER + name: value for name, value in self.scaler.tensors().items()} if self.scaler else {}
        return {
            "model": {name: weight.detach() for name, weight in weights.items()},
            "optimizer": self.updater.tensors() | self._random() | scaler,
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, dict[str, torch.Tensor]], engine: Engine | None = None) -> None:
        """Take up what `tensors` gave, and compute on with what it was computed with.

        That includes parts as large as they were then, where memory ran out later: a run that goes back and one that
        is begun again from that checkpoint are to be the same, so both find it out once more.

        Raises:
            InputError: they are another model's.
            UsageError: this device cannot compute as it was begun.
        """
        if engine is not None and engine != self.engine:
            precision.check(engine.precision, self.device)
            if (engine.precision, engine.compiled) == (self.engine.precision, self.engine.compiled):
                self.engine, self._cold = engine, engine.compiled  # only the parts are others
            else:
                self._make(engine)
        self.load_weights(tensors["model"])
        states = tensors["optimizer"]
        self.updater.restore({name: value for name, value in states.items() if not name.startswith((_RANDOM, _SCALER))})
        if self.scaler:
            self.scaler.restore({k.removeprefix(_SCALER): v for k, v in states.items() if k.startswith(_SCALER)})
        self._set_random(states)

    def _random(self) -> dict[str, torch.Tensor]:
        """The state of torch's generators."""
        states = {_RANDOM + "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states[_RANDOM + "cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _set_random(self, states: dict[str, torch.Tensor]) -> None:
        torch.set_rng_state(states[_RANDOM + "cpu"])
        if self.device.type == "cuda" and _RANDOM + "cuda" in states:
            torch.cuda.set_rng_state(states[_RANDOM + "cuda"], self.device)

    @torch.no_grad()
    def load_weights(self, saved: dict[str, torch.Tensor]) -> None:
        """Take up weights alone.

        Raises:
            InputError: they are another model's.
        """
        weights = dict(self.model.named_parameters())
        shapes = {name: value.shape for name, value in saved.items()}
        if shapes != {name: weight.shape for name, weight in weights.items()}:
            raise InputError("checkpoint: its weights do not have the names and shapes of this recipe's model")
        for name, weight in weights.items():
            weight.copy_(saved[name])


def pick_device(recipe: Recipe) -> torch.device:
    """Where the recipe trains.

    Raises:
        UsageError: it asks for CUDA and there is none.
    """
    available = torch.cuda.is_available()
    if recipe.device == "cuda" and not available:
        raise UsageError('recipe: device = "cuda", but torch sees no CUDA device here; "auto" takes the CPU')
    return torch.device("cuda" if available and recipe.device != "cpu" else "cpu")


@contextmanager
def reproducible(recipe: Recipe) -> Iterator[None]:
    """The recipe's threads and seed, and deterministic kernels on CUDA, while inside; what was before comes back after.

    CPU kernels are deterministic for a fixed number of threads; asking for it there only costs time. fp32 is fp32 and
    not TF32 (10 bits of mantissa, for x3 to x8 the products), so that a run is the same on every device to 1e-6; who
    wants speed takes bf16.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    products = torch.get_float32_matmul_precision()
    torch.set_num_threads(recipe.threads)
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(recipe.seed)
    if pick_device(recipe).type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
        torch.use_deterministic_algorithms(deterministic)
