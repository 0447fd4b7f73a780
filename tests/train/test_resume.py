"""Exact resume: a run that was cut off and went on is the run that was never cut off, bit for bit."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tests.train.nano import CONTEXT, MODEL, curve, interrupt, nano, weights

from isoflop.specs.architecture import Routing
from isoflop.specs.divergence import Divergence
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.saving import Saving
from isoflop.specs.schedule import Schedule
from isoflop.train import journal
from isoflop.train.loop import train

STEPS = 16
KINDS: dict[str, dict[str, object]] = {
    "AdamW, warmup-stable-decay": {"schedule": Schedule(cooldown_fraction=0.3)},
    "Muon, cosine": {
        "optimizer": Optimizer(name="muon", learning_rate=3e-3),
        "schedule": Schedule(name="cosine", final_fraction=0.1),
    },
    "mixture of experts": {"model": msgspec.structs.replace(MODEL, experts=Routing(count=4, active=2, shared=16))},
    "spikes left out": {"divergence": Divergence(spike_sigma=2.0, window=8, patience=8)},
    "bf16, recomputed": {"precision": "bf16", "recompute": "full"},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return nano(tmp_path_factory.mktemp("shards"), steps=STEPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10))
def test_interrupted_at_random_steps_and_resumed_is_uninterrupted_to_the_bit(
    recipe: Recipe, kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are summed from micro-batches of two sequences; the saving differs too, as it is no part of the run."""
    monkeypatch.setattr(journal, "_REPORT_S", -1.0)
    recipe = msgspec.structs.replace(recipe, seed=seed, evaluations=2, micro_tokens=2 * CONTEXT, **KINDS[kind])
    whole = train(recipe, folder=tmp_path / "whole")
    assert whole.status == "finished"
    folder = tmp_path / "cut"
    stops = sorted(int(step) for step in np.random.default_rng(seed).integers(0, STEPS, size=2))
    cut = msgspec.structs.replace(recipe, checkpoint=Saving(every_steps=5, keep=1, background=bool(seed % 2)))
    for stop in stops:
        interrupt(cut, folder, stop)
    again = train(cut, folder=folder)
    assert (again.loss_nats, again.bits_per_byte, again.note) == (whole.loss_nats, whole.bits_per_byte, whole.note)
    ours, theirs = weights(tmp_path / "whole"), weights(folder)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert curve(folder) == curve(tmp_path / "whole")
