"""Compiled blocks compute what eager ones do, are the same after a resume, and give way where nothing compiles."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from isoflop.data.batch import Batch
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.engine import Engine
from isoflop.specs.recipe import Recipe
from isoflop.train import compiled, task
from isoflop.train.learner import Learner, reproducible

MODEL = Decoder(layers=2, width=32, heads=2, kv_heads=1, head_size=16, hidden=64, vocabulary=97, context=32)
RECIPE = Recipe(name="nano", shards="", model=MODEL, n_tokens=25600, batch_tokens=256, device="cpu")
EAGER = Engine(precision="fp32", compiled=False, rows=4)
COMPILED = replace(EAGER, compiled=True)


def batch(seed: int = 0) -> Batch:
    ids = np.random.default_rng(seed).integers(0, MODEL.vocabulary, (RECIPE.sequences, MODEL.context + 1))
    return Batch(inputs_ST=ids[:, :-1].copy(), targets_SU=ids[:, 1:].copy())


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks traced, differentiated and run as graphs, but by torch's own kernels: `make soak` has C++ compiled."""
    usual = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **given: usual(function, backend="aot_eager", **given))


@pytest.mark.usefixtures("traced")
def test_compiled_blocks_compute_what_eager_ones_do_and_resume_to_the_bit() -> None:
    with reproducible(RECIPE):
        eager, whole = (Learner(RECIPE, peak_learning_rate=1e-3, engine=each) for each in (EAGER, COMPILED))
        first = [each.step(0, batch()) for each in (eager, whole)]
        assert first[1].loss_nats == pytest.approx(first[0].loss_nats, rel=1e-6)
        assert first[1].grad_norm == pytest.approx(first[0].grad_norm, rel=1e-5)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # one for all blocks
        assert not torch._dynamo.utils.counters["graph_break"]
        saved = {
            group: {name: value.clone() for name, value in some.items()} for group, some in whole.tensors().items()
        }
        later = whole.step(1, batch(1))
        assert not later.notes
        torch.compiler.reset()  # as a new process would, it compiles again
        other = Learner(RECIPE, peak_learning_rate=1e-3, engine=EAGER)
        other.restore(saved, whole.engine)
        assert other.step(1, batch(1)) == later
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), other.model.parameters(), strict=True))


@pytest.mark.usefixtures("traced")
def test_of_experts_whose_shapes_change_at_every_step_nothing_is_compiled_again_and_again() -> None:
    recipe = replace(RECIPE, model=replace(MODEL, experts=Routing(count=4, active=2)))
    with reproducible(recipe):
        mixed, plain = (Learner(recipe, peak_learning_rate=1e-3, engine=each) for each in (COMPILED, EAGER))
        for k in range(3):
            done, expected = mixed.step(k, batch(k)), plain.step(k, batch(k))
            assert done.notes == ()
            assert done.loss_nats == pytest.approx(expected.loss_nats, rel=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # attention's


@pytest.mark.usefixtures("traced")
def test_an_evaluation_is_of_eager_blocks() -> None:
    learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=COMPILED)
    plain = Learner(RECIPE, peak_learning_rate=1e-3, engine=EAGER)
    tokens = torch.from_numpy(batch().inputs_ST)
    with torch.no_grad(), learner.evaluating():
        found = learner.model(tokens)
    with torch.no_grad(), plain.evaluating():
        assert torch.equal(found, plain.model(tokens))


def test_a_compiler_that_fails_is_named_and_the_run_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no graph for you\nsecond line")

    usual = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **given: usual(function, backend=broken, **given))
    with reproducible(RECIPE):
        learner = Learner(RECIPE, peak_learning_rate=1e-3, engine=COMPILED)
        done = [learner.step(k, batch(k)) for k in range(2)]
        plain = Learner(RECIPE, peak_learning_rate=1e-3, engine=EAGER)
        expected = [plain.step(k, batch(k)) for k in range(2)]
    assert done[0].notes == ("torch.compile failed (RuntimeError: no graph for you): the run goes on without it",)
    assert done[1].notes == ()
    assert not learner.engine.compiled
    assert [replace(step, notes=()) for step in done] == expected
    assert not any(
        "forward" in vars(block) for name, block in learner.model.named_modules() if name.endswith("blocks.0")
    )


def test_where_compiling_is_not_to_blame_the_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ValueError("no such token")

    monkeypatch.setattr(task, "loss", wrong)
    with pytest.raises(ValueError, match="no such token"):
        Learner(RECIPE, peak_learning_rate=1e-3, engine=COMPILED).step(0, batch())


WITHOUT_COMPILER = """
import sys, msgspec
from isoflop.data.batch import Batch
from isoflop.specs.engine import Engine
from isoflop.specs.recipe import Recipe
from isoflop.train.learner import Learner, reproducible
import numpy as np

recipe = msgspec.json.decode(sys.argv[1], type=Recipe)
ids = np.array(msgspec.json.decode(sys.argv[2]))
with reproducible(recipe):
    learner = Learner(recipe, peak_learning_rate=1e-3, engine=Engine(precision="fp32", compiled=True, rows=4))
    done = learner.step(0, Batch(inputs_ST=ids[0], targets_SU=ids[1]))
print(learner.engine.compiled, done.loss_nats, *done.notes, sep="|")
"""


def test_a_machine_without_a_compiler_trains_eagerly_and_says_so(tmp_path: Path) -> None:
    some = batch()
    given = [RECIPE, [some.inputs_ST.tolist(), some.targets_SU.tolist()]]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER, *(msgspec.json.encode(each).decode() for each in given)],
        env={
            "PATH": str(tmp_path),  # where no g++ is
            "PYTHONPATH": ":".join(sys.path),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    still, loss, *notes = ran.stdout.strip().splitlines()[-1].split("|")
    assert still == "False"
    with reproducible(RECIPE):
        assert float(loss) == Learner(RECIPE, peak_learning_rate=1e-3, engine=EAGER).step(0, some).loss_nats
    assert len(notes) == 1
    assert "torch.compile failed (" in notes[0]
    assert "compiler" in notes[0]


def test_the_first_cause_that_says_something_is_told() -> None:
    cause = OSError("g++ not found")
    error = RuntimeError("backend failed")
    error.__cause__ = cause
    assert compiled.reason(error) == "OSError: g++ not found"
    assert compiled.reason(ValueError()) == "ValueError"
