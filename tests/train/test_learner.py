"""A step is the step of the whole batch, however many parts it is taken in and whatever gives way on the way."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from isoflop.data.batch import Batch
from isoflop.data.corrupt import NOTHING
from isoflop.errors import UsageError
from isoflop.model.decoder import Decoder as Model
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.engine import Computed, Engine
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import task
from isoflop.train.head_loss import HeadLoss
from isoflop.train.learner import Learner, Step, reproducible

MODEL = Decoder(layers=2, width=32, heads=2, kv_heads=1, head_size=16, hidden=64, vocabulary=97, context=32)
RECIPE = Recipe(
    name="nano", shards="", model=MODEL, n_tokens=25600, batch_tokens=256, device="cpu",
    optimizer=Optimizer(learning_rate=3e-3),
)  # fmt: skip


def batch(seed: int = 0, *, recipe: Recipe = RECIPE) -> Batch:
    ids = np.random.default_rng(seed).integers(0, recipe.model.vocabulary, (recipe.sequences, recipe.model.context + 1))
    return Batch(inputs_ST=ids[:, :-1].copy(), targets_SU=ids[:, 1:].copy())


def engine(*, precision: Computed = "fp32", rows: int = 8, compiled: bool = False) -> Engine:
    return Engine(precision=precision, rows=rows, compiled=compiled)


def gradients(recipe: Recipe, found: Engine, some: Batch) -> tuple[float, torch.Tensor]:
    """The loss and the whole gradient, as a vector in double precision, before anything moves."""
    with reproducible(recipe):
        learner = Learner(recipe, peak_learning_rate=1e-3, engine=found)
        loss_nats = learner._accumulated(some, [])
        return loss_nats, torch.cat(
            [p.grad.double().flatten() for p in learner.model.parameters() if p.grad is not None]
        )


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_a_batch_in_parts_has_loss_and_gradient_of_the_whole(
    rows: int, recompute: Literal["none", "selective", "full"]
) -> None:
    whole = gradients(RECIPE, engine(), batch())
    parts = gradients(replace(RECIPE, recompute=recompute), engine(rows=rows), batch())
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert difference(parts[1], whole[1]) < 1e-6


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_what_is_recomputed_in_bf16_is_what_was_kept(recompute: Literal["selective", "full"]) -> None:
    """Recomputation repeats the same kernels on the same numbers, so "full" is equal to the bit; "selective" multiplies
    by gate and up one after the other and rounds their gradients' sum once more, less than bf16 rounds altogether."""
    exact = gradients(RECIPE, engine(rows=2), batch())
    kept = gradients(RECIPE, engine(precision="bf16", rows=2), batch())
    again = gradients(replace(RECIPE, recompute=recompute), engine(precision="bf16", rows=2), batch())
    assert again[0] == pytest.approx(kept[0], rel=1e-6)
    if recompute == "full":
        assert torch.equal(again[1], kept[1])
    else:
        assert difference(again[1], kept[1]) < difference(kept[1], exact[1])


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_parts_that_say_unequally_much_are_weighted_by_what_they_say(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masked language modelling: row k says k + 1 of its tokens, and the loss is a mean over all that is said."""

    def masked(recipe: Recipe, model: Model, part: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = (torch.from_numpy(ids).to(device) for ids in (part.inputs_ST, part.targets_SU))
        return HeadLoss(z_loss=recipe.optimizer.z_loss).chosen(model, model(inputs), targets)

    monkeypatch.setattr(task, "loss", masked)
    some = batch()
    says = np.arange(MODEL.context)[None] <= np.arange(RECIPE.sequences)[:, None]
    some = replace(some, targets_SU=np.where(says, some.targets_SU, NOTHING))
    assert some.said == sum(range(1, RECIPE.sequences + 1))
    whole, parts = (gradients(RECIPE, engine(rows=each), some) for each in (8, rows))
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert difference(parts[1], whole[1]) < 1e-6


@pytest.mark.parametrize("balance_loss", [0.0, 0.01])
def test_experts_are_balanced_within_each_part(balance_loss: float) -> None:
    """The balance loss is a product of two means over tokens, so that of a whole batch is not the mean of its parts':
    each part is balanced on its own, as every trainer with micro-batches does it. All else is the whole batch's."""
    routing = Routing(count=4, active=2, balance_loss=balance_loss)
    recipe = replace(RECIPE, model=replace(MODEL, experts=routing))
    whole, parts = (gradients(recipe, engine(rows=each), batch()) for each in (8, 2))
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    if balance_loss:
        assert 1e-6 < difference(parts[1], whole[1]) < 0.01
    else:
        assert difference(parts[1], whole[1]) < 1e-6


class Exhausted:
    """A loss for whose activations there is no room from so many sequences on."""

    def __init__(self, *, room: int, error: Exception) -> None:
        self.room, self.error, self.usual = room, error, task.loss
        self.tried: list[int] = []

    def __call__(self, recipe: Recipe, model: Model, part: Batch, device: torch.device) -> Any:
        self.tried.append(len(part.inputs_ST))
        torch.rand(1)  # an attempt that fails has drawn
        if len(part.inputs_ST) > self.room:
            raise self.error
        return self.usual(recipe, model, part, device)


OUT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT, ids=lambda error: type(error).__name__)
def test_where_memory_runs_out_the_same_batch_is_taken_in_parts_half_as_large(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reproducible(RECIPE):
        calm = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine(rows=2))
        expected = [calm.step(k, batch(k)) for k in range(3)]
    exhausted = Exhausted(room=2, error=error)
    with reproducible(RECIPE):
        pressed = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine(rows=8))
        monkeypatch.setattr(task, "loss", exhausted)
        found = [pressed.step(k, batch(k)) for k in range(3)]
    assert exhausted.tried[:6] == [8, 4, 2, 2, 2, 2]
    assert exhausted.tried[6:] == [2] * 8  # what was found is kept
    assert (found[0].rows, pressed.engine.rows) == (2, 2)
    assert [len(step.notes) for step in found] == [2, 0, 0]
    assert "memory ran out with 8 sequences at once" in found[0].notes[0]
    assert [(step.loss_nats, step.grad_norm) for step in found] == [(s.loss_nats, s.grad_norm) for s in expected]
    assert equal(calm, pressed)


def equal(a: Learner, b: Learner) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))


def test_where_one_sequence_is_too_much_the_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "loss", Exhausted(room=0, error=MemoryError("no room")))
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine())
    with pytest.raises(MemoryError, match="no room"):
        learner.step(0, batch())
    assert learner.engine.rows == 1


def test_an_attempt_that_failed_leaves_the_random_generator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine(rows=8))
    torch.manual_seed(5)
    torch.rand(4)  # what four parts of two draw
    after = torch.get_rng_state()
    torch.manual_seed(5)
    monkeypatch.setattr(task, "loss", Exhausted(room=2, error=MemoryError()))
    learner.step(0, batch())
    assert torch.equal(torch.get_rng_state(), after)


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "loss", Exhausted(room=0, error=RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Learner(RECIPE, peak_learning_rate=1e-3, engine=engine()).step(0, batch())


def test_a_gradient_that_is_not_finite_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine())
    learner.step(0, batch())
    before = {name: value.clone() for name, value in learner.tensors()["model"].items()}
    usual: Callable[..., Any] = task.loss
    monkeypatch.setattr(task, "loss", lambda *given: (usual(*given)[0] * float("inf"), usual(*given)[1]))
    done = learner.step(1, batch(1))
    assert done.skipped
    assert not np.isfinite(done.grad_norm)
    assert all(torch.equal(before[name], value) for name, value in learner.tensors()["model"].items())
    monkeypatch.undo()
    assert not learner.step(1, batch(1)).skipped


def test_the_time_of_a_step_is_told_apart() -> None:
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine(rows=2))
    done: list[Step] = [learner.step(k, batch(k)) for k in range(2)]
    spent = learner.laps.spent
    assert min(spent.forward_s, spent.backward_s, spent.optimizer_s) > 0
    assert spent.total_s == spent.forward_s + spent.backward_s + spent.optimizer_s
    before = spent.total_s
    learner.step(2, batch(2))
    assert learner.laps.spent.total_s > before
    assert {step.rows for step in done} == {2}


def test_fp32_means_fp32_whatever_the_program_around_has_set() -> None:
    before = torch.get_float32_matmul_precision()
    calm = gradients(RECIPE, engine(), batch())
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(gradients(RECIPE, engine(), batch())[1], calm[1])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_run_begun_in_another_precision_goes_on_in_it() -> None:
    begun = Learner(RECIPE, peak_learning_rate=1e-3, engine=engine(precision="bf16", rows=2))
    begun.step(0, batch())
    other = Learner(replace(RECIPE, precision="auto"), peak_learning_rate=1e-3, engine=engine())
    saved = {group: {name: value.clone() for name, value in some.items()} for group, some in begun.tensors().items()}
    other.restore(saved, begun.engine)
    assert other.engine == begun.engine
    assert begun.step(1, batch(1)) == other.step(1, batch(1))
    assert equal(begun, other)


@pytest.mark.parametrize(
    ("precision", "said"), [("fp16", "reach 1 GFLOP/s where bf16 reaches 430"), ("fp8", "a CPU, which has no fp8")]
)
def test_what_a_cpu_cannot_compute_in_is_refused_with_the_reason(precision: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Learner(replace(RECIPE, precision=precision), peak_learning_rate=1e-3)


def test_where_only_the_parts_were_others_no_second_model_is_made_beside_the_first() -> None:
    """Two models at once may not fit where memory had just run out."""
    learner = Learner(RECIPE, peak_learning_rate=3e-3, engine=engine(rows=2))
    saved = {group: {name: value.clone() for name, value in some.items()} for group, some in learner.tensors().items()}
    model, before = learner.model, gradients(RECIPE, engine(rows=8), batch())
    learner.step(0, batch())
    learner.restore(saved, engine(rows=8))
    assert learner.model is model
    assert learner.engine.rows == 8
    again = learner.step(0, batch())
    assert again.rows == 8
    assert again.loss_nats == before[0]
