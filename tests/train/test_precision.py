"""fp16 survives by its scale, fp8 by torchao, and what cannot be computed in is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from isoflop.data.batch import Batch
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.model.decoder import Decoder as Model
from isoflop.specs.architecture import Decoder
from isoflop.specs.engine import Engine
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import precision, task
from isoflop.train.learner import Learner, Step, reproducible
from isoflop.train.precision import Scaler, to_fp8

CPU = torch.device("cpu")
MODEL = Decoder(layers=1, width=32, heads=2, kv_heads=1, head_size=16, hidden=64, vocabulary=64, context=16)
RECIPE = Recipe(
    name="nano", shards="", model=MODEL, n_tokens=6400, batch_tokens=64, device="cpu",
    optimizer=Optimizer(learning_rate=3e-3),
)  # fmt: skip
HALF = Engine(precision="fp16", compiled=False, rows=2)  # a CPU can, slowly; a recipe that asks for it is refused


def batch(seed: int = 0) -> Batch:
    ids = np.random.default_rng(seed).integers(0, MODEL.vocabulary, (RECIPE.sequences, MODEL.context + 1))
    return Batch(inputs_ST=ids[:, :-1].copy(), targets_SU=ids[:, 1:].copy())


def test_the_scale_goes_as_torch_prescribes() -> None:
    """Halved by each overflow, doubled after 2000 steps in a row without one: GradScaler's own course."""
    weight = nn.Parameter(torch.zeros(3))
    ours = Scaler(CPU, [weight])
    theirs = torch.amp.GradScaler("cpu")
    other = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=0.1)
    random = np.random.default_rng(0)
    for step in range(2100):
        overflows = step < 50 and random.random() < 0.3
        for scaled, owner in ((ours.scaled, weight), (theirs.scale, other.param_groups[0]["params"][0])):
            scaled(torch.ones(()))
            owner.grad = torch.full((3,), float("inf") if overflows else 1.0)
        ours.unscale()
        assert ours.overflowed(finite=not overflows) == (overflows and ours.scale >= 0.5)
        theirs.step(other)
        theirs.update()
        assert ours.scale == theirs.get_scale()
    assert ours.overflows > 5


def test_in_fp16_with_its_scale_gradients_too_small_for_fp16_arrive() -> None:
    """Of 4096 tokens most logits' slopes, softmax over tokens, lie near fp16's smallest number, 6e-8, or below."""
    gradients = {}
    wide = replace(RECIPE, model=replace(MODEL, vocabulary=2048), batch_tokens=4096, n_tokens=4096)
    ids = np.random.default_rng(0).integers(0, 2048, (256, 17))
    some = Batch(inputs_ST=ids[:, :-1].copy(), targets_SU=ids[:, 1:].copy())
    for kind in ("fp32", "fp16", "bf16"):
        with reproducible(wide):
            learner = Learner(wide, peak_learning_rate=1e-3, engine=replace(HALF, precision=kind, rows=256))
            learner._accumulated(some, [])
            learner._clipped()
            found = {
                name: weight.grad.double()
                for name, weight in learner.model.named_parameters()
                if weight.grad is not None
            }
            gradients[kind] = found
    for name, exact in gradients["fp32"].items():
        half, brain = ((gradients[kind][name] - exact).norm() / exact.norm() for kind in ("fp16", "bf16"))
        assert half < brain / 4, name  # 11 bits of mantissa against 8


def steps(learner: Learner, count: int, *, begin: int = 0) -> list[Step]:
    return [learner.step(step, batch(step)) for step in range(begin, begin + count)]


def test_a_batch_whose_gradient_overflows_is_taken_again_at_half_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss planted with a slope of 100 times fp16's largest number over the first scale: two halvings."""
    with reproducible(RECIPE):
        learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=HALF)
        assert learner.scaler is not None
        usual, first = task.loss, learner.scaler.scale
        seen: list[float] = []

        def steep(recipe: Recipe, model: Model, part: Batch, device: torch.device) -> Any:
            loss, nats = usual(recipe, model, part, device)
            assert learner.scaler is not None
            seen.append(learner.scaler.scale)
            return loss * (float("inf") if seen[-1] > first / 4 else 1.0), nats

        monkeypatch.setattr(task, "loss", steep)
        done = learner.step(0, batch())
    assert seen == [first] * 2 + [first / 2] * 2 + [first / 4] * 2  # all parts of the batch, each time
    assert not done.skipped
    assert np.isfinite(done.grad_norm)
    assert [f"at a loss scale of {first:g}" in done.notes[0], "2 times in this run" in done.notes[1]] == [True, True]
    assert learner.scaler.overflows == 2


def test_what_overflows_at_every_scale_is_no_matter_of_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = task.loss
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=HALF)
    monkeypatch.setattr(task, "loss", lambda *given: (usual(*given)[0] * float("inf"), usual(*given)[1]))
    done = learner.step(0, batch())
    assert done.skipped
    assert len(done.notes) == 16  # from 2^16 down to 1
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=HALF)
    monkeypatch.setattr(task, "loss", lambda *given: tuple(each * float("nan") for each in usual(*given)))
    done = learner.step(0, batch())
    assert (done.skipped, done.notes) == (True, ())  # the loss itself is not finite: no scale mends that


def test_a_resume_in_fp16_is_exact_with_its_scale() -> None:
    with reproducible(RECIPE):
        whole = Learner(RECIPE, peak_learning_rate=1e-3, engine=HALF)
        assert whole.scaler is not None
        first = steps(whole, 3)
        for weight in whole.model.parameters():
            weight.grad = torch.full_like(weight, float("inf"))  # the fourth overflows once
        assert whole._overflowed(1.0, whole._clipped(), [])
        saved = {
            group: {name: value.clone() for name, value in some.items()} for group, some in whole.tensors().items()
        }
        later = steps(whole, 3, begin=3)
    with reproducible(RECIPE):
        again = Learner(RECIPE, peak_learning_rate=1e-3, engine=HALF)
        again.restore(saved, HALF)
        assert again.scaler is not None
        assert again.scaler.overflows == 1
        assert steps(again, 3, begin=3) == later
    assert again.scaler.scale == whole.scaler.scale
    assert len(first) == 3
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


def test_fp8_rounds_the_blocks_products_and_nothing_else() -> None:
    pytest.importorskip("torchao")
    plain, rounded = (build(MODEL, seed=0) for _ in range(2))
    assert to_fp8(rounded, emulate=True) == 4
    assert [*dict(plain.named_parameters())] == [*dict(rounded.named_parameters())]
    some = batch()
    losses = []
    for model in (plain, rounded):
        with precision.products("fp8", CPU):
            loss, nats = task.loss(RECIPE, model, some, CPU)
        torch.autograd.backward(loss)
        losses.append(nats.item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_fp8_of_a_model_it_cannot_take_is_refused() -> None:
    pytest.importorskip("torchao")
    odd = build(replace(MODEL, width=24, heads=3, kv_heads=3, head_size=8, hidden=40), seed=0)
    with pytest.raises(UsageError, match="no matrix of the model has both sides a multiple of 16"):
        to_fp8(odd, emulate=True)
