"""Model and optimizer as one thing that takes steps, and can be saved and restored to the bit."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from isoflop.data.batch import Batch
from isoflop.errors import InputError, UsageError
from isoflop.model.build import build
from isoflop.specs.recipe import Recipe
from isoflop.train import task
from isoflop.train.optim import Updater
from isoflop.train.schedule import multiplier

_MICRO_TOKENS = {"cpu": 2**14, "cuda": 2**16}
"""Tokens whose activations exist at once; a larger batch is summed from several."""
_RANDOM = "random."


class Learner:
    """A model in training.

    Attributes:
        recipe: what it is trained by.
        device: where it lives.
        model: the model.
        peak_learning_rate: what the schedule is a share of.
    """

    def __init__(self, recipe: Recipe, *, peak_learning_rate: float) -> None:
        self.recipe = recipe
        self.device = pick_device(recipe)
        self.peak_learning_rate = peak_learning_rate
        self.model = build(recipe.model, seed=recipe.seed, device=self.device, recompute=recipe.recompute)
        self.updater = Updater(self.model, recipe, peak_learning_rate=peak_learning_rate)
        self._parameters = list(self.model.parameters())

    def precision(self) -> AbstractContextManager[object]:
        """Autocast to bf16 where the recipe says so; the weights stay fp32."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.precision == "bf16" else nullcontext()

    def learning_rate(self, step: int) -> float:
        """At a step counted from 0; Muon's own, where the recipe gives one, keeps the same share of its peak."""
        return self.peak_learning_rate * multiplier(self.recipe.schedule, step=step, steps=self.recipe.steps)

    def step(self, step: int, batch: Batch) -> tuple[float, float]:
        """One optimizer step on one batch; returns its loss in nats per token and the gradient's norm."""
        rows = max(1, _MICRO_TOKENS[self.device.type] // self.recipe.model.context)
        said, total = batch.said or 1, 0.0  # where there is nothing to say, no part has weight
        for part in batch.parts(rows):
            share = part.said / said
            with self.precision():
                loss, nats = task.loss(self.recipe, self.model, part, self.device)
            torch.autograd.backward(loss * share)
            total += nats.item() * share
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.recipe.optimizer.clip_norm)
        self.updater.step(share=multiplier(self.recipe.schedule, step=step, steps=self.recipe.steps))
        return total, norm.item()

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Everything a resume needs, by file and name."""
        weights = dict(self.model.named_parameters())
        random = {_RANDOM + "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random[_RANDOM + "cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "model": {name: weight.detach() for name, weight in weights.items()},
            "optimizer": self.updater.tensors() | random,
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, dict[str, torch.Tensor]]) -> None:
        """Take up what `tensors` gave.

        Raises:
            InputError: they are another model's.
        """
        weights = dict(self.model.named_parameters())
        saved = {name: value.shape for name, value in tensors["model"].items()}
        if saved != {name: weight.shape for name, weight in weights.items()}:
            raise InputError("checkpoint: its weights do not have the names and shapes of this recipe's model")
        for name, weight in weights.items():
            weight.copy_(tensors["model"][name])
        states = tensors["optimizer"]
        self.updater.restore({name: value for name, value in states.items() if not name.startswith(_RANDOM)})
        torch.set_rng_state(tensors["optimizer"][_RANDOM + "cpu"])
        if self.device.type == "cuda" and _RANDOM + "cuda" in tensors["optimizer"]:
            torch.cuda.set_rng_state(tensors["optimizer"][_RANDOM + "cuda"], self.device)


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

    CPU kernels are deterministic for a fixed number of threads; asking for it there only costs time.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    if pick_device(recipe).type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
