"""AdamW and Muon as the recipe says: which weights are whose, which decay, the rules for beta2 and the learning rate.

Muon replaces the update of a matrix by the nearest orthogonal one. It is torch's own (`torch.optim.Muon`: Nesterov
momentum, five Newton-Schulz steps in bf16 with Jordan's coefficients), given the matrices of the blocks. Everything
else stays with AdamW: embeddings of tokens, positions, segments and relative distances, heads, norms and biases.

Sources: Jordan 2024 (kellerjordan.github.io/posts/muon); Liu et al. 2025 (arXiv:2502.16982); Loshchilov & Hutter 2019
(arXiv:1711.05101).
"""

from collections.abc import Container, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from isoflop.errors import InputError
from isoflop.laws import hyperparameters
from isoflop.model.attention import Attention, CrossAttention, SelfAttention
from isoflop.model.experts import Mixture
from isoflop.model.layers import SwiGLU
from isoflop.model.parametrise import part
from isoflop.specs.architecture import ParameterCount
from isoflop.specs.parametrisation import scales
from isoflop.specs.recipe import Recipe
from isoflop.train import lowbit

MOMENTUM = 0.95
"""Of Muon (Jordan 2024)."""

_ADJUST = {"adamw-rms": "match_rms_adamw", "spectral": "original"}
_PEAK = "peak"


class Moves(Protocol):
    """What changes the weights, and can be saved and restored."""

    def step(self, *, share: float) -> None:
        """Move the weights along their gradients, at this share of each peak learning rate; the gradients go."""

    def tensors(self) -> dict[str, Tensor]:
        """The state by the name of its weight, the number of its part if it has several, and its kind."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave."""


class Updater:
    """All that changes the weights: one optimizer, or Muon and AdamW side by side.

    Muon meets queries, keys and values (gate and up; every expert) as matrices of their own, though one weight holds
    them: orthogonal together is something else than orthogonal each. A part is a leaf that shares its rows' memory with
    the weight; experts, which are stacked, lie one below the other.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, *, peak_learning_rate: float, only: Container[str] | None = None
    ) -> None:
        """Take charge of the model's weights, or of those of these names only."""
        weights = {name: w for name, w in model.named_parameters() if only is None or name in only}
        ours = muon_weights(model) if recipe.optimizer.name == "muon" else []
        ours = [name for name in ours if name in weights]
        self._whole = {name: weight for name, weight in weights.items() if name not in ours}
        self._cut = {name: (weights[name], _parts(weights[name], _rows(model, name))) for name in ours}
        self.optimizers: list[torch.optim.Optimizer] = []
        if self._whole:
            self.optimizers.append(adamw(model, recipe, peak_learning_rate=peak_learning_rate, weights=self._whole))
        if ours:
            parts = [piece for _, parts in self._cut.values() for piece in parts]
            self.optimizers.append(muon(parts, recipe, peak_learning_rate=peak_learning_rate))

    def step(self, *, share: float) -> None:
        """Move the weights along their gradients, at this share of each peak learning rate; the gradients go."""
        for weight, parts in self._cut.values():
            assert weight.grad is not None
            rows = torch.split(weight.grad.flatten(0, -2), [len(piece) for piece in parts])
            for piece, gradient in zip(parts, rows, strict=True):
                piece.grad = gradient
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                _set_rate(group, group[_PEAK] * share)
            with lowbit.stepping(optimizer):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for weight, _ in self._cut.values():
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """The state by the name of its weight, the number of its part if it has several, and its kind."""
        return {
            f"{name}.{piece}": value
            for name, weight, state in self._states()
            for kind, whole in state.get(weight, {}).items()
            for piece, value in lowbit.apart(kind, whole)
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave.

        Raises:
            InputError: it is the state of another optimizer or model.
        """
        for optimizer in self.optimizers:
            optimizer.state.clear()  # a checkpoint from before the first step has none
        owners = {name: (weight, state) for name, weight, state in self._states()}
        for key, value in tensors.items():
            name, _, kind = key.rpartition(".")
            if name not in owners:
                raise InputError(f"checkpoint: it holds {key}, of which this recipe's optimizer knows nothing")
            weight, state = owners[name]
            state[weight][kind] = value.to(weight.device)
        for weight, state in owners.values():
            lowbit.join(state[weight], weight)

    def _states(self) -> Iterator[tuple[str, nn.Parameter, Any]]:
        """Each weight or part, named, with the states of its optimizer."""
        for name, weight in self._whole.items():
            yield name, weight, self.optimizers[0].state
        for name, (_, parts) in self._cut.items():
            for k, piece in enumerate(parts):
                yield (name if len(parts) == 1 else f"{name}.{k}"), piece, self.optimizers[-1].state


def _set_rate(group: dict[str, Any], rate: float) -> None:
    """Torchao's is a tensor that its compiled step reads, and has to stay the same one."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def muon_weights(model: nn.Module) -> list[str]:
    """Names of the matrices inside the blocks, stacks of them included: all but embeddings, heads, norms and biases."""
    return [name for name, weight in model.named_parameters() if weight.ndim >= 2 and "blocks." in name]


def _rows(model: nn.Module, name: str) -> list[int] | None:
    """Rows of each matrix that this weight holds, None where it is one."""
    holder = model.get_submodule(name.rpartition(".")[0])
    if isinstance(holder, Mixture):
        count, halves = holder.routing.count, 2 if name.endswith("gate_up") else 1
        return [holder.get_parameter(name.rpartition(".")[2]).shape[1] // halves] * halves * count
    owner = model.get_submodule(name.rpartition(".")[0].rpartition(".")[0])
    if isinstance(owner, Attention) and name.endswith("qkv.weight"):
        spec = owner.spec
        return [heads * spec.head_size for heads in (spec.heads, spec.kv_heads, spec.kv_heads)]
    if isinstance(owner, SelfAttention) and name.endswith("qkv.weight"):
        return [owner.heads * owner.head_size] * 3
    if isinstance(owner, CrossAttention) and name.endswith("key_value.weight"):
        return [owner.heads * owner.head_size] * 2
    if isinstance(owner, SwiGLU) and name.endswith("gate_up.weight"):
        return [len(owner.gate_up.weight) // 2] * 2
    return None


def _parts(weight: nn.Parameter, rows: list[int] | None) -> list[nn.Parameter]:
    flat = weight.detach().flatten(0, -2)
    return [nn.Parameter(piece) for piece in torch.split(flat, rows or [len(flat)])]


def adamw(
    model: nn.Module, recipe: Recipe, *, peak_learning_rate: float, weights: dict[str, nn.Parameter] | None = None
) -> torch.optim.Optimizer:
    """AdamW over these weights, or all, with weight decay on those that the recipe names.

    Raises:
        UsageError: its states shall be in 8 bits, and torchao is not installed.
    """
    named = dict(model.named_parameters()) if weights is None else weights
    groups = adamw_groups(model, named, recipe, peak_learning_rate=peak_learning_rate)
    betas = (recipe.optimizer.beta1, beta2(recipe))
    if recipe.optimizer.name == "adamw-8bit":
        return lowbit.adamw(groups, learning_rate=peak_learning_rate, betas=betas)
    return torch.optim.AdamW(groups, lr=peak_learning_rate, betas=betas, eps=recipe.optimizer.epsilon, fused=True)


def adamw_groups(
    model: nn.Module, weights: dict[str, nn.Parameter], recipe: Recipe, *, peak_learning_rate: float
) -> list[dict[str, Any]]:
    """These weights in groups of one rate, epsilon and decay, each as the parametrisation has it for their kind."""
    spec, ruled = recipe.optimizer, scales(recipe.parametrisation, recipe.model)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    for name, weight in weights.items():
        rule = ruled.rule(part(name, weight))
        decays = spec.decay_on == "all" or (
            weight.ndim >= 2 and (spec.decay_on == "matrices-and-embeddings" or id(weight) not in embeddings)
        )
        decay = spec.weight_decay * rule.weight_decay if decays else 0.0
        group = (peak_learning_rate * rule.learning_rate, spec.epsilon * rule.epsilon, decay)
        groups.setdefault(group, []).append(weight)
    return [
        {"params": members, _PEAK: rate, "eps": epsilon, "weight_decay": decay}
        for (rate, epsilon, decay), members in groups.items()
    ]


def muon(matrices: Iterable[nn.Parameter], recipe: Recipe, *, peak_learning_rate: float) -> torch.optim.Muon:
    """Muon over these matrices."""
    spec, scale = recipe.optimizer, recipe.optimizer.muon_scale or "adamw-rms"
    rule = scales(recipe.parametrisation, recipe.model).muon(spectral=scale == "spectral")
    peak = peak_learning_rate if spec.muon_learning_rate is None else spec.muon_learning_rate
    return torch.optim.Muon(
        [{"params": list(matrices), _PEAK: peak * rule.learning_rate}],
        lr=peak,
        weight_decay=spec.weight_decay * rule.weight_decay,
        momentum=MOMENTUM if spec.muon_momentum is None else spec.muon_momentum,
        adjust_lr_fn=_ADJUST[scale],
    )


def beta2(recipe: Recipe) -> float:
    """The recipe's beta2, or clip(0.999^(sequences / 32), 0.95, 0.999): a memory of a fixed number of sequences.

    Source: Marek et al. 2025 (arXiv:2507.07101), the half-life in tokens is kept when the batch changes; 0.999 at 32
    sequences and the bounds are those of the ladders we read.
    """
    if recipe.optimizer.beta2 is not None:
        return recipe.optimizer.beta2
    return float(min(max(0.999 ** (recipe.sequences / 32), 0.95), 0.999))


def learning_rate(recipe: Recipe, counted: ParameterCount) -> float:
    """The recipe's peak learning rate, or the rule's: for the base sizes, from where the parametrisation carries it."""
    stated = recipe.optimizer.learning_rate
    if stated is not None:
        return stated
    return hyperparameters.learning_rate(n_params=scales(recipe.parametrisation, recipe.model).base_params(counted))
