"""Work for a token of text against torch's own counter, on the very loss that is trained."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isoflop.count.parameters import parameters
from isoflop.count.text import flop_per_text_token, law_flop_per_text_token
from isoflop.data.batch import Batch
from isoflop.data.corrupt import NOTHING, Place
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder, Model
from isoflop.specs.objective import Name, Objective
from isoflop.specs.recipe import Recipe
from isoflop.train import objectives, task

DECODER = Decoder(layers=2, width=48, heads=4, kv_heads=2, head_size=16, hidden=112, vocabulary=96, context=16)
ENCODER = Encoder(layers=2, width=48, heads=3, head_size=16, hidden=96, vocabulary=96, context=16)
T5 = EncoderDecoder(layers=2, width=48, heads=3, head_size=16, hidden=96, vocabulary=96, context=16, decoder_layers=3)


def recipe(model: Model, name: Name, **options: Any) -> Recipe:
    objective = Objective(name=name, **options)
    text = objective.settled(model.__struct_config__.tag).row(model.context, model.__struct_config__.tag).text  # type: ignore[arg-type]
    return Recipe(
        name="", shards="", model=model, objective=objective, n_tokens=16 * text, batch_tokens=16 * text,
        loss_head="eager",
    )  # fmt: skip


def batch(how: Recipe) -> Batch:
    text = np.random.default_rng(0).integers(0, 80, (how.sequences, how.row.text + 1))
    if how.learned.name == "prefix" and how.family == "decoder":  # every length of a prefix once, as on average
        prefix_S = np.arange(1, 17)
        silent = np.arange(16) < prefix_S[:, None] - 1
        return Batch(inputs_ST=text[:, :-1], targets_SU=np.where(silent, NOTHING, text[:, 1:]), prefix_S=prefix_S)
    terms = objectives.terms(how, text_vocabulary=90)
    return objectives.load(str(how.learned.name)).batch(text[:, :-1], text[:, 1:], Place(seed=0, step=0), terms)


@pytest.mark.parametrize(
    "how",
    [
        recipe(DECODER, "causal"), recipe(DECODER, "prefix"), recipe(ENCODER, "masked", rate=0.25),
        recipe(T5, "span"), recipe(T5, "span", rate=0.5, mean_span=2.0), recipe(T5, "prefix"),
    ],
    ids=lambda how: f"{how.learned.name}-{how.family}",
)  # fmt: skip
def test_torch_counts_the_same_operations_in_a_training_step(how: Recipe) -> None:
    model, rows = build(how.model, seed=0), batch(how)
    assert rows.said == how.sequences * how.row.said
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        torch.autograd.backward(task.loss(how, model, rows, torch.device("cpu"))[0])
    assert counted.get_total_flops() == pytest.approx(flop_per_text_token(how) * how.batch_tokens, rel=1e-12)


def test_the_laws_work_is_six_n_but_for_two_stacks_of_which_a_token_passes_one() -> None:
    assert law_flop_per_text_token(recipe(DECODER, "causal")) == 6 * parameters(DECODER).total
    assert law_flop_per_text_token(recipe(ENCODER, "masked")) == 6 * parameters(ENCODER).total
    alike = EncoderDecoder(layers=4, width=64, heads=4, head_size=16, hidden=256, vocabulary=96, context=64)
    # Raffel et al. 2020, sec. 3.2.2: L + L layers have twice the parameters of an L-layer model at about its cost.
    work = law_flop_per_text_token(recipe(alike, "prefix")) / (6 * parameters(alike).non_embedding)
    assert 0.5 < work < 0.6
