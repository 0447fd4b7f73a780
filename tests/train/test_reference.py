"""The fast step against the plainest one there is: whole logits, torch's own norms and softmax, AdamW unfused."""

import numpy as np
import pytest
import torch
from train_reference import Reference

from isoflop.data.batch import Batch
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.schedule import Schedule
from isoflop.train.learner import Learner, reproducible

STEPS = 40


def a_recipe(*, qk_norm: bool, kv_heads: int, tied: bool, z_loss: float) -> Recipe:
    model = Decoder(
        layers=2, width=32, heads=4, kv_heads=kv_heads, head_size=8, hidden=64, vocabulary=200, context=24,
        qk_norm=qk_norm, tied=tied,
    )  # fmt: skip
    return Recipe(
        name="r",
        shards="",
        model=model,
        n_tokens=10**6,
        batch_tokens=8 * 24,
        optimizer=Optimizer(
            learning_rate=3e-3, beta2=0.95, z_loss=z_loss, clip_norm=0.5, decay_on="matrices-and-embeddings"
        ),
        schedule=Schedule(warmup_fraction=0.0, cooldown_fraction=0.0),
        device="cpu",
    )


def batches() -> list[Batch]:
    """Text of a chain in which each token likes three successors, so that there is something to learn."""
    random = np.random.default_rng(0)
    likes = random.integers(0, 200, (200, 3))
    ids = random.integers(0, 200, (STEPS, 8, 25))
    for place in range(1, 25):
        ids[:, :, place] = likes[ids[:, :, place - 1], random.integers(0, 3, (STEPS, 8))]
    return [Batch(inputs_ST=rows[:, :-1].copy(), targets_SU=rows[:, 1:].copy()) for rows in ids]


@pytest.mark.parametrize(
    ("qk_norm", "kv_heads", "tied", "z_loss"), [(True, 1, True, 1e-3), (False, 4, True, 0.0), (True, 2, False, 1e-5)]
)
def test_losses_of_training_are_those_of_the_plain_reference_in_double_precision(
    qk_norm: bool, kv_heads: int, tied: bool, z_loss: float
) -> None:
    recipe = a_recipe(qk_norm=qk_norm, kv_heads=kv_heads, tied=tied, z_loss=z_loss)
    assert isinstance(recipe.model, Decoder)
    weights = dict(build(recipe.model, seed=recipe.seed).named_parameters())
    truth = Reference(recipe.model, weights, dtype=torch.float64).losses(batches(), recipe.optimizer)
    with reproducible(recipe):
        learner = Learner(recipe, peak_learning_rate=3e-3)
        ours = [learner.step(step, batch).loss_nats for step, batch in enumerate(batches())]
    assert truth[-1] < truth[0] - 0.3
    assert np.abs(np.subtract(ours, truth)).max() < 2e-5
