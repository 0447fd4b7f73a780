"""Which weights are whose, and Muon against its published arithmetic."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from isoflop.count.memory_states import MOMENT_BYTES
from isoflop.count.parameters import parameters
from isoflop.data.batch import Batch
from isoflop.errors import InputError
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder, Model, Routing
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, optim
from isoflop.train.learner import Learner, reproducible
from isoflop.train.optim import Updater

MODEL = Decoder(layers=2, width=32, heads=4, kv_heads=2, head_size=8, hidden=48, vocabulary=64, context=16, tied=False)
MUON = Optimizer(name="muon", learning_rate=3e-3)


def _recipe(optimizer: Optimizer, *, seed: int = 0, model: Model = MODEL) -> Recipe:
    return Recipe(
        name="nano",
        shards="",
        model=model,
        n_tokens=1024,
        batch_tokens=68 if isinstance(model, EncoderDecoder) else 64,  # 17 tokens of text make a sequence of 16
        optimizer=optimizer,
        device="cpu",
        seed=seed,
    )


def _updater(optimizer: Optimizer, *, model: Model = MODEL) -> tuple[dict[str, nn.Parameter], Updater]:
    built = build(model, seed=0)
    updater = Updater(built, _recipe(optimizer, model=model), peak_learning_rate=3e-3)
    return dict(built.named_parameters()), updater


def _with_gradients(weights: dict[str, nn.Parameter], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    for name, weight in weights.items():
        weight.grad = found[name].clone()
    return found


def _orthogonal(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Five quintic steps in float64: x <- a x + b (x x') x + c (x x')^2 x (Jordan 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: npt.NDArray[np.float64] = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


@pytest.mark.parametrize("scale", ["adamw-rms", "spectral"])
def test_two_steps_of_muon_are_the_published_formula_on_queries_keys_and_values_each(scale: str) -> None:
    spec = Optimizer(name="muon", muon_learning_rate=0.02, muon_momentum=0.9, weight_decay=0.3, muon_scale=scale)  # type: ignore[arg-type]
    weights, updater = _updater(spec)
    name = "blocks.0.attention.qkv.weight"
    expected, velocity = weights[name].detach().double().numpy().copy(), np.zeros((64, 32))
    before = expected.copy()
    for step in range(2):
        gradient = _with_gradients(weights, step)[name].double().numpy()
        updater.step(share=0.5)
        velocity = 0.9 * velocity + gradient
        nesterov = gradient + 0.9 * velocity
        expected *= 1 - 0.01 * 0.3
        for rows in (slice(0, 32), slice(32, 48), slice(48, 64)):
            height = rows.stop - rows.start
            size = 0.2 * math.sqrt(32) if scale == "adamw-rms" else math.sqrt(max(1, height / 32))
            expected[rows] -= 0.01 * size * _orthogonal(nesterov[rows])
    moved = weights[name].detach().double().numpy() - before
    # Torch works in bf16, of 8 bits: each of 15 products rounds at 2^-9.
    assert np.linalg.norm(moved - (expected - before)) < 0.03 * np.linalg.norm(expected - before)


SMALL: dict[str, Any] = {
    "layers": 1,
    "width": 32,
    "heads": 2,
    "head_size": 8,
    "hidden": 48,
    "vocabulary": 64,
    "context": 16,
}
CUT: list[tuple[Model, dict[str, list[int]]]] = [
    (Encoder(**SMALL, segments=2), {"blocks.0.attention.qkv.weight": [16] * 3, "blocks.0.mlp.up.weight": [48]}),
    (
        EncoderDecoder(**SMALL),
        {
            "encoder.blocks.0.attention.qkv.weight": [16] * 3,
            "decoder.blocks.0.cross.key_value.weight": [16] * 2,
            "decoder.blocks.0.cross.query.weight": [16],
            "decoder.blocks.0.mlp.gate_up.weight": [48] * 2,
        },
    ),
    (
        Decoder(**SMALL, kv_heads=1, experts=Routing(count=3, active=1, shared=16)),
        {
            "blocks.0.mlp.gate_up": [48] * 6,
            "blocks.0.mlp.down": [32] * 3,
            "blocks.0.mlp.router.weight": [3],
            "blocks.0.mlp.shared.gate_up.weight": [16] * 2,
        },
    ),
]


@pytest.mark.parametrize(("model", "cut"), CUT, ids=["encoder", "encoder-decoder", "mixture"])
def test_every_matrix_of_every_family_is_moved_by_an_orthogonal_update_of_its_own(
    model: Model, cut: dict[str, list[int]]
) -> None:
    weights, updater = _updater(replace(MUON, weight_decay=0.0), model=model)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    gradients = _with_gradients(weights)
    updater.step(share=1.0)
    for name, heights in cut.items():
        moved, gradient = ((x[name].detach().flatten(0, -2).double().numpy()) for x in (weights, gradients))
        moved = moved - before[name].flatten(0, -2).double().numpy()
        start = 0
        for height in heights:
            rows = slice(start, start + height)
            size = 3e-3 * 0.2 * math.sqrt(max(height, moved.shape[1]))
            np.testing.assert_allclose(moved[rows] / size, -_orthogonal(gradient[rows]), atol=0.03)
            start += height
        assert start == len(moved)
    own = {key.rpartition(".")[0] for key in updater.tensors() if key.endswith("exp_avg")}
    tables = {name for name in weights if "blocks." not in name}
    assert own == tables | {name for name, weight in weights.items() if weight.ndim == 1}


@pytest.mark.parametrize("decay_on", ["matrices", "matrices-and-embeddings"])
def test_positions_segments_and_relative_distances_decay_as_embeddings_do(decay_on: str) -> None:
    spec = Optimizer(weight_decay=0.5, decay_on=decay_on)  # type: ignore[arg-type]
    for model in (CUT[0][0], CUT[1][0]):
        weights, updater = _updater(spec, model=model)
        decayed = {id(p) for g in updater.optimizers[0].param_groups if g["weight_decay"] for p in g["params"]}
        found = {name for name, weight in weights.items() if id(weight) in decayed and "blocks." not in name}
        transform = {"transform.weight"} & weights.keys()
        tables = {name for name in weights if name.rpartition(".")[0].endswith(("embedding", "positions", "segments"))}
        tables |= {name for name in weights if name.endswith("relative.weight")}
        heads = {"head.weight"} & weights.keys()
        assert len(tables) == 3
        assert found == transform | heads | (tables if decay_on != "matrices" else set())


@pytest.mark.parametrize("shape", [(64, 64), (16, 64), (64, 16)])
def test_an_update_of_muon_is_nearly_orthogonal_and_as_large_as_one_of_adamw(shape: tuple[int, int]) -> None:
    """Singular values over two decades come out in about 0.7 to 1.2 (Jordan 2024), at 0.2 learning rates."""
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    weight = nn.Parameter(torch.zeros(shape))
    muon = optim.muon([weight], _recipe(replace(MUON, weight_decay=0.0)), peak_learning_rate=1.0)
    weight.grad = left * torch.logspace(0, -2, min(shape)) @ right
    muon.step()  # type: ignore[no-untyped-call]
    values = torch.linalg.svdvals(weight.detach()) / (0.2 * math.sqrt(max(shape)))
    assert 0.65 < values.min() < values.max() < 1.25
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    weights, updater = _updater(MUON)
    _with_gradients(weights)
    updater.step(share=1.0)
    kinds: dict[str, set[str]] = {}
    for key in updater.tensors():
        name, _, kind = key.rpartition(".")
        kinds.setdefault(kind, set()).add(name)
    inside = {f"blocks.{k}.{part}.weight" for k in (0, 1) for part in ("attention.out", "mlp.down")}
    inside |= {f"blocks.{k}.attention.qkv.weight.{part}" for k in (0, 1) for part in (0, 1, 2)}
    inside |= {f"blocks.{k}.mlp.gate_up.weight.{part}" for k in (0, 1) for part in (0, 1)}
    assert kinds["momentum_buffer"] == inside
    vectors = {name for name, weight in weights.items() if weight.ndim == 1}
    assert kinds["exp_avg"] == kinds["exp_avg_sq"] == vectors | {"embedding.weight", "head.weight"}


def test_the_state_of_each_optimizer_is_as_large_as_counted() -> None:
    counted = parameters(MODEL)
    names: tuple[Literal["adamw", "muon"], ...] = ("adamw", "muon")
    for name in names:
        weights, updater = _updater(Optimizer(name=name))
        _with_gradients(weights)
        updater.step(share=1.0)
        held = sum(4 * value.numel() for key, value in updater.tensors().items() if not key.endswith(".step"))
        matrices = sum(weight.numel() for key, weight in weights.items() if key in optim.muon_weights(_module()))
        rest = counted.total - matrices
        assert held == MOMENT_BYTES[name] * matrices + MOMENT_BYTES["adamw"] * rest


def _module() -> nn.Module:
    return build(MODEL, seed=0, device="meta")


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize(
    ("decay_on", "decayed"),
    [
        ("matrices", {"matrix", "head"}),
        ("matrices-and-embeddings", {"matrix", "head", "embedding"}),
        ("all", {"matrix", "head", "embedding", "vector"}),
    ],
)
def test_weights_without_gradient_shrink_by_decay_alone_where_the_recipe_says(
    name: str, decay_on: str, decayed: set[str]
) -> None:
    spec = Optimizer(name=name, weight_decay=0.5, decay_on=decay_on)  # type: ignore[arg-type]
    weights, updater = _updater(spec)
    before = {key: weight.detach().clone() for key, weight in weights.items()}
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    updater.step(share=1.0)
    for key, weight in weights.items():
        kind = "vector" if weight.ndim == 1 else key.split(".")[0].replace("blocks", "matrix")
        kept = 1 - 3e-3 * 0.5 if kind in decayed else 1.0
        torch.testing.assert_close(weight.detach(), before[key] * kept, rtol=1e-6, atol=0)


def test_the_direction_of_muon_does_not_know_the_size_of_gradients() -> None:
    """One orthogonal update is the same for a gradient a million times as large: clipping cannot change it."""
    found = []
    for factor in (1.0, 2.0**20):
        weights, updater = _updater(MUON)
        for name, gradient in _with_gradients(weights).items():
            weights[name].grad = factor * gradient
        updater.step(share=1.0)
        found.append(weights["blocks.1.mlp.down.weight"].detach())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("name", "model"), [("adamw", MODEL), ("muon", MODEL), ("muon", CUT[2][0])])
def test_saved_and_taken_up_by_another_learner_training_goes_on_to_the_bit(
    name: str, model: Model, seed: int, tmp_path: Path
) -> None:
    recipe = _recipe(replace(MUON, name=name), seed=seed, model=model)
    random = np.random.default_rng(seed)
    batches = random.integers(0, 64, (6, 4, 17))
    with reproducible(recipe):
        whole, other = (Learner(recipe, peak_learning_rate=3e-3) for _ in range(2))
        for step, tokens in enumerate(batches):
            if step == 3:
                saved = checkpoint.save(tmp_path, step=step, key="", tensors=whole.tensors(), state={})
                other.restore(checkpoint.load(saved).tensors)
            said = [
                each.step(step, Batch(inputs_ST=tokens[:, :-1], targets_SU=tokens[:, 1:]))
                for each in (whole, other)[: 1 + step // 3]
            ]
            assert len(set(said)) == 1
        ours, theirs = whole.tensors(), other.tensors()
    for file, rows in ours.items():
        assert rows.keys() == theirs[file].keys()
        assert all(torch.equal(value, theirs[file][key]) for key, value in rows.items())


def test_the_state_of_another_optimizer_is_refused() -> None:
    weights, muon = _updater(MUON)
    _with_gradients(weights)
    muon.step(share=1.0)
    _, adamw = _updater(Optimizer())
    with pytest.raises(InputError, match=r"it holds blocks\.0\.attention\.qkv\.weight\.0\.momentum_buffer, of which"):
        adamw.restore(muon.tensors())
