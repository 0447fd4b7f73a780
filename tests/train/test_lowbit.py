"""AdamW with moments in 8 bits: as small as counted, resumed to the bit, and beside the one in fp32."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from isoflop.count.memory_states import MOMENT_BYTES
from isoflop.count.parameters import parameters
from isoflop.data.batch import Batch
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.parametrisation import Parametrisation
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint
from isoflop.train.learner import Learner, reproducible
from isoflop.train.optim import Updater

MODEL = Decoder(layers=2, width=64, heads=2, kv_heads=1, head_size=32, hidden=96, vocabulary=64, context=16)
EIGHT = Optimizer(name="adamw-8bit", learning_rate=5e-3)


def _recipe(optimizer: Optimizer = EIGHT, *, seed: int = 0, model: Decoder = MODEL) -> Recipe:
    return Recipe(
        name="nano",
        shards="",
        model=model,
        n_tokens=16_384,
        batch_tokens=64,
        optimizer=optimizer,
        device="cpu",
        seed=seed,
    )


def _batches(seed: int, steps: int) -> list[Batch]:
    """Sequences in which each token follows from the one before, but for one in ten."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        columns = [random.integers(0, 64, 4)]
        for _ in range(16):
            columns.append(np.where(random.random(4) < 0.1, random.integers(0, 64, 4), (columns[-1] * 5 + 3) % 64))
        tokens = np.stack(columns, axis=1)
        found.append(Batch(inputs_ST=tokens[:, :-1].copy(), targets_SU=tokens[:, 1:].copy()))
    return found


def test_without_torchao_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(
        UsageError, match=r"needs torchao: pip install 'isoflop\[lowbit\]', or take \"adamw\""
    ) as caught:
        Learner(_recipe(), peak_learning_rate=1e-3)
    assert caught.value.exit_code == 2


@pytest.fixture(scope="module")
def _torchao() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed", exc_type=ModuleNotFoundError)


@pytest.mark.usefixtures("_torchao")
def test_the_states_are_as_large_as_counted() -> None:
    """A scale is 4 bytes for 256 entries; vectors of a norm keep fp32, a thousandth of the whole here."""
    model = replace(MODEL, width=256, heads=8, kv_heads=8, hidden=512)
    built = build(model, seed=0)
    updater = Updater(built, _recipe(model=model), peak_learning_rate=1e-3)
    for weight in built.parameters():
        weight.grad = torch.ones_like(weight)
    updater.step(share=1.0)
    held = sum(v.numel() * v.element_size() for key, v in updater.tensors().items() if not key.endswith(".step"))
    matrices = sum(weight.numel() for weight in built.parameters() if weight.ndim == 2)
    vectors = parameters(model).total - matrices
    assert held == matrices * MOMENT_BYTES["adamw-8bit"] + vectors * MOMENT_BYTES["adamw"]
    assert held == pytest.approx(parameters(model).total * MOMENT_BYTES["adamw-8bit"], rel=0.01)


@pytest.mark.usefixtures("_torchao")
@pytest.mark.parametrize("seed", range(10))
def test_saved_and_taken_up_by_another_learner_training_goes_on_to_the_bit(seed: int, tmp_path: Path) -> None:
    recipe = _recipe(seed=seed)
    with reproducible(recipe):
        whole, other = (Learner(recipe, peak_learning_rate=5e-3) for _ in range(2))
        for step, batch in enumerate(_batches(seed, 6)):
            if step == 3:
                saved = checkpoint.save(tmp_path, step=step, key="", tensors=whole.tensors(), state={})
                other.restore(checkpoint.load(saved).tensors)
            said = [each.step(step, batch) for each in (whole, other)[: 1 + step // 3]]
            assert len({(each.loss_nats, each.grad_norm) for each in said}) == 1
        ours, theirs = whole.tensors(), other.tensors()
    assert any(value.dtype is torch.uint8 for key, value in ours["optimizer"].items() if key.endswith("_codes"))
    for file, rows in ours.items():
        assert rows.keys() == theirs[file].keys()
        assert all(torch.equal(value, theirs[file][key]) for key, value in rows.items())


@pytest.mark.usefixtures("_torchao")
def test_after_two_hundred_steps_the_loss_is_that_of_fp32_moments() -> None:
    """Dettmers et al. 2022, table 1: no loss from 8-bit states. The last twenty steps of the same batches."""
    found = {}
    for name in ("adamw", "adamw-8bit"):
        recipe = _recipe(replace(EIGHT, name=name))
        with reproducible(recipe):
            learner = Learner(recipe, peak_learning_rate=5e-3)
            losses = [learner.step(step, batch).loss_nats for step, batch in enumerate(_batches(0, 200))]
        found[name] = np.mean(losses[-20:])
        assert found[name] < losses[0] - 2
    assert found["adamw-8bit"] == pytest.approx(found["adamw"], abs=0.02)


@pytest.mark.usefixtures("_torchao")
def test_each_group_keeps_its_own_rate_and_decay_as_the_schedule_moves_them() -> None:
    """Without gradients matrices of a model four times the base's width shrink by lr * decay, which stays."""
    model = replace(MODEL, width=256, heads=8, kv_heads=8, hidden=512)
    ruled = Parametrisation(name="completep", base_width=64)
    recipe = replace(_recipe(replace(EIGHT, weight_decay=0.5), model=model), parametrisation=ruled)
    built = build(model, seed=0)
    updater = Updater(built, recipe, peak_learning_rate=0.02)
    before = {name: weight.detach().clone() for name, weight in built.named_parameters()}
    for share in (0.5, 0.25):
        for weight in built.parameters():
            weight.grad = torch.zeros_like(weight)
        updater.step(share=share)
    for name, weight in built.named_parameters():
        matrix = name.startswith("blocks.") and weight.ndim == 2
        kept = (1 - 0.01 * 0.5) * (1 - 0.005 * 0.5) if matrix else 1.0
        torch.testing.assert_close(weight.detach(), before[name] * kept, rtol=1e-6, atol=0)
