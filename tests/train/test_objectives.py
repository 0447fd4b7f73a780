"""The contract of every objective, those to come too: what it makes of text, what its loss is, and that it learns."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from isoflop import registry
from isoflop.count.text import flop_per_text_token
from isoflop.data.batch import Batch
from isoflop.data.corpus import StandardLibrary
from isoflop.data.corrupt import NOTHING, Place
from isoflop.data.documents import numbers
from isoflop.data.shards import Shards, open_shards
from isoflop.data.sources import Sources
from isoflop.data.tokenization import tokenize
from isoflop.errors import StoppedError, UsageError
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder, Model, Routing
from isoflop.specs.objective import FAMILIES, Family, Name, Objective
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.train import checkpoint, objectives, record, task
from isoflop.train.loop import train

CPU = torch.device("cpu")
TEXT = 300
CONTEXT = 16
MODELS: dict[Family, Model] = {
    "decoder": Decoder(
        layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=320, context=CONTEXT
    ),
    "encoder": Encoder(layers=1, width=16, heads=2, head_size=8, hidden=32, vocabulary=320, context=CONTEXT),
    "encoder-decoder": EncoderDecoder(
        layers=1, width=16, heads=2, head_size=8, hidden=32, vocabulary=320, context=CONTEXT
    ),
}
KINDS = [(name, family) for name, families in FAMILIES.items() for family in families]
every_kind = pytest.mark.parametrize(("name", "family"), KINDS, ids=["-".join(kind) for kind in KINDS])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some real text: modules of the standard library."""
    documents = list(itertools.islice(StandardLibrary().documents(), 60))
    folder = tmp_path_factory.mktemp("shards")
    tokenize(lambda: documents, folder=folder, vocabulary=TEXT, validation_fraction=0.2, source="standard library")
    return folder


def recipe(shards: Path, name: Name, family: Family, *, sequences: int = 8, steps: int = 30, **more: Any) -> Recipe:
    model, objective = MODELS[family], more.pop("objective", Objective(name=name))
    text = objective.settled(family).row(model.context, family).text
    usual: dict[str, Any] = {
        "optimizer": Optimizer(learning_rate=1e-2), "device": "cpu", "validation_tokens": 2048, "evaluations": 2
    }  # fmt: skip
    return Recipe(
        name="nano",
        shards=str(shards),
        model=model,
        objective=objective,
        n_tokens=steps * sequences * text,
        batch_tokens=sequences * text,
        **(usual | more),
    )


def opened(shards: Path) -> Sources:
    return Sources({"text": open_shards(shards)})


def arrays(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value for name in batch.__struct_fields__ if isinstance(value := getattr(batch, name), np.ndarray)}


def gradients(how: Recipe, model: nn.Module, parts: list[Batch], said: int) -> list[Tensor]:
    model.zero_grad()
    for part in parts:
        torch.autograd.backward(task.loss(how, model, part, CPU)[0] * (part.said / said))
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def test_every_file_is_an_objective_that_a_recipe_can_name_and_some_family_can_learn() -> None:
    assert set(registry.members("isoflop.train.objectives")) == set(get_args(Name)) == set(FAMILIES)


@every_kind
def test_ranks_together_see_the_batch_of_one_and_no_two_steps_or_seeds_are_alike(
    shards: Path, name: Name, family: Family
) -> None:
    how, there = recipe(shards, name, family), opened(shards)
    for step in (0, 7):
        whole = arrays(task.Batches(how, there).batch(step))
        ranks = [arrays(task.Batches(how, there, rank=rank, world=4).batch(step)) for rank in range(4)]
        for field, value in whole.items():
            np.testing.assert_array_equal(value, np.concatenate([one[field] for one in ranks]))
        again, other = (arrays(task.Batches(how, there).batch(one)) for one in (step, step + 1))
        seeded = arrays(task.Batches(structs.replace(how, seed=1), there).batch(step))
        assert all(np.array_equal(value, again[field]) for field, value in whole.items())
        assert not np.array_equal(whole["inputs_ST"], other["inputs_ST"])
        assert not np.array_equal(whole["inputs_ST"], seeded["inputs_ST"])


@every_kind
def test_a_sequence_is_what_the_recipe_says_of_it(shards: Path, name: Name, family: Family) -> None:
    how = recipe(shards, name, family, sequences=400)
    batch, row = task.Batches(how, opened(shards)).batch(3), how.row
    assert batch.inputs_ST.shape == (how.sequences, row.inputs)
    assert batch.targets_SU.shape == (how.sequences, row.outputs or row.inputs)
    assert batch.said / how.sequences == pytest.approx(row.said, rel=0.05)
    for ids in (batch.inputs_ST, batch.targets_SU[batch.targets_SU != NOTHING]):
        assert ids.min() >= 0
        assert ids.max() < how.model.vocabulary
    if batch.outputs_SU is not None:
        np.testing.assert_array_equal(batch.outputs_SU[:, 1:], batch.targets_SU[:, :-1])


@every_kind
@pytest.mark.parametrize(("z_loss", "loss_head"), [(0.1, "chunked"), (0.0, "eager"), (0.1, "eager")])
def test_loss_and_gradient_are_those_of_whole_logits_and_plain_cross_entropy(
    shards: Path, name: Name, family: Family, z_loss: float, loss_head: str
) -> None:
    how = recipe(shards, name, family, optimizer=Optimizer(z_loss=z_loss, learning_rate=1e-2), loss_head=loss_head)
    model = build(how.model, seed=0)
    kind = torch.float64 if loss_head == "chunked" else torch.float32
    model = model.to(kind)
    batch = task.Batches(how, opened(shards)).batch(0)
    loss, nats = task.loss(how, model, batch, CPU)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    logits = model.logits(hidden(model, batch)).flatten(0, 1)
    targets = torch.from_numpy(batch.targets_SU.copy()).flatten()
    plain = cross_entropy(logits, targets)  # passes over NOTHING by torch's own default
    theirs = torch.autograd.grad(
        plain + z_loss * logits[targets != NOTHING].logsumexp(-1).square().mean(), list(model.parameters())
    )
    torch.testing.assert_close(nats.to(kind), plain.detach(), rtol=1e-5, atol=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def hidden(model: Any, batch: Batch) -> Tensor:
    """Hidden states by a call of our own."""
    inputs = torch.from_numpy(batch.inputs_ST.copy())
    if batch.outputs_SU is not None:
        found: Tensor = model(inputs, torch.from_numpy(batch.outputs_SU.copy()))
    elif batch.prefix_S is not None:
        found = model(inputs, prefix_B=torch.from_numpy(batch.prefix_S.copy()))
    else:
        found = model(inputs)
    return found


@every_kind
@pytest.mark.parametrize(("kind", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_parts_weighted_by_what_they_say_add_up_to_the_whole_batch(
    shards: Path, name: Name, family: Family, kind: torch.dtype, close: float
) -> None:
    how = recipe(shards, name, family, sequences=13, optimizer=Optimizer(z_loss=0.1, learning_rate=1e-2))
    model = build(how.model, seed=0).to(kind)
    batch = task.Batches(how, opened(shards)).batch(5)
    whole = gradients(how, model, [batch], batch.said)
    largest = max(gradient.abs().max().item() for gradient in whole)
    for rows in (1, 3, 5):
        parts = list(batch.parts(rows))
        assert sum(part.said for part in parts) == batch.said
        for a, b in zip(whole, gradients(how, model, parts, batch.said), strict=True):
            assert (a - b).abs().max().item() <= close * largest


def test_routers_of_experts_add_up_too_where_a_part_reads_more_than_it_says(shards: Path) -> None:
    """Their z-loss is a mean over tokens read. Balance is a product of two means, of each part as of each device."""
    experts = Routing(count=4, active=2, balance_loss=0.0, router_z_loss=1.0)
    how = recipe(shards, "prefix", "decoder", sequences=13)
    how = structs.replace(how, model=structs.replace(MODELS["decoder"], experts=experts))
    model = build(how.model, seed=0).double()
    batch = task.Batches(how, opened(shards)).batch(5)
    whole = gradients(how, model, [batch], batch.said)
    largest = max(gradient.abs().max().item() for gradient in whole)
    for a, b in zip(whole, gradients(how, model, list(batch.parts(2)), batch.said), strict=True):
        assert (a - b).abs().max().item() <= 1e-12 * largest


def test_a_part_with_nothing_to_say_has_no_weight_no_loss_and_no_gradient(shards: Path) -> None:
    how = recipe(shards, "masked", "encoder")  # of the others every row says something
    batch = task.Batches(how, opened(shards)).batch(0)
    silent = structs.replace(batch, targets_SU=np.full_like(batch.targets_SU, NOTHING))
    model = build(how.model, seed=0)
    loss, nats = task.loss(how, model, silent, CPU)
    torch.autograd.backward(loss)
    assert (silent.said, loss.item(), nats.item()) == (0, 0.0, 0.0)
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())
    mixed = structs.replace(batch, targets_SU=np.concatenate((silent.targets_SU[:4], batch.targets_SU[4:])))
    assert [part.said == 0 for part in mixed.parts(4)] == [True, False]
    assert [part.read_per_said for part in mixed.parts(4)] == [0.0, 0.5]


def unigram_nats(shards: Shards) -> float:
    counts = np.bincount(np.concatenate(shards.tokens("train").arrays))
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


@every_kind
def test_it_learns_of_real_text(shards: Path, tmp_path: Path, name: Name, family: Family) -> None:
    how = recipe(shards, name, family, sequences=16, steps=100, evaluations=1)
    run = train(how, folder=tmp_path / "run")
    assert run.loss_nats is not None
    assert run.status == "finished"
    assert run.loss_nats < min(math.log(TEXT) - 1, unigram_nats(open_shards(shards)) + 0.1)
    assert (run.bits_per_byte is None) == (name in {"masked", "span"})
    assert run.n_tokens == how.n_tokens
    assert run.model_flop == pytest.approx(flop_per_text_token(how) * how.n_tokens)


def stopped_after(asked: int) -> Callable[[], bool]:
    times = itertools.count(1)
    return lambda: next(times) > asked


@every_kind
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(
    shards: Path, tmp_path: Path, name: Name, family: Family
) -> None:
    how = recipe(shards, name, family, steps=12)
    whole = train(how, folder=tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(how, folder=tmp_path / "cut", should_stop=stopped_after(5))
    resumed = train(how, folder=tmp_path / "cut")
    assert (whole.loss_nats, whole.bits_per_byte) == (resumed.loss_nats, resumed.bits_per_byte)
    ours, theirs = (
        checkpoint.load(max((tmp_path / which / record.CHECKPOINTS).glob("step-*"))) for which in ("whole", "cut")
    )
    for group, rows in ours.tensors.items():
        assert all(torch.equal(value, theirs.tensors[group][key]) for key, value in rows.items())


@every_kind
def test_all_runs_of_an_objective_are_judged_by_one_corruption(shards: Path, name: Name, family: Family) -> None:
    there = opened(shards)
    how = recipe(shards, name, family)
    first = task.Validation(how, there)
    other = task.Validation(recipe(shards, name, family, sequences=4, seed=3), there)
    assert first.name == other.name
    every = [arrays(batch) for batch in first.batches("text", 8, every=1)]
    whole = {field: np.concatenate([batch[field] for batch in every]) for field in every[0]}
    thinned = [arrays(batch) for batch in other.batches("text", 4, every=4)]
    for field, value in whole.items():
        np.testing.assert_array_equal(value[::4], np.concatenate([batch[field] for batch in thinned]))


def test_losses_of_different_objectives_go_by_different_names(shards: Path) -> None:
    told = [
        Objective(name="masked"), Objective(name="masked", rate=0.3), Objective(name="masked", hidden=1, replaced=0),
        Objective(name="masked", documents="separate"),
    ]  # fmt: skip
    there = opened(shards)
    kinds = [recipe(shards, name, family) for name, family in KINDS]
    kinds += [recipe(shards, "masked", "encoder", objective=one) for one in told[1:]]
    kinds.append(recipe(shards, "causal", "decoder", objective=Objective(documents="separate")))
    names = {task.Validation(kind, there).name for kind in kinds}
    assert len(names) == len(kinds)
    causal = task.Validation(kinds[0], there).name
    assert causal.startswith("validation:2048@")  # that of every run before there was a choice
    assert all(name.endswith(causal) or "span" in name for name in names)


@pytest.mark.parametrize(
    ("name", "family", "extra"), [("masked", "encoder", 1), ("span", "encoder-decoder", 1), ("causal", "decoder", 0)]
)
def test_a_vocabulary_without_room_for_mask_or_sentinels_is_refused_with_the_one_to_take(
    shards: Path, tmp_path: Path, name: Name, family: Family, extra: int
) -> None:
    how = recipe(shards, name, family)
    assert how.row.extra_ids == extra
    small = structs.replace(how, model=structs.replace(how.model, vocabulary=TEXT + extra - 1))
    with pytest.raises(UsageError, match=f"set it to at least {TEXT + extra}$"):
        train(small, folder=tmp_path / "small")
    enough = structs.replace(how, model=structs.replace(how.model, vocabulary=TEXT + extra))
    task.check(enough, opened(shards))
    assert task.Batches(enough, opened(shards)).batch(0).inputs_ST.max() <= TEXT + extra - 1


def test_sentinels_and_mask_are_no_text(shards: Path) -> None:
    there = opened(shards)
    masked = task.Batches(recipe(shards, "masked", "encoder", sequences=64), there).batch(0)
    chosen = masked.targets_SU != NOTHING
    assert set(masked.inputs_ST[~chosen]) <= set(range(TEXT))
    assert (masked.inputs_ST == TEXT).sum() == pytest.approx(0.8 * chosen.sum(), rel=0.2)
    assert not (masked.targets_SU == TEXT - 1).any()  # the end of text
    span = task.Batches(recipe(shards, "span", "encoder-decoder", sequences=64), there).batch(0)
    assert (span.targets_SU[:, 0] == 319).all()  # the last id of the model is the first sentinel
    assert span.outputs_SU is not None
    assert (span.outputs_SU[:, 0] == TEXT - 1).all()
    assert (span.targets_SU[:, -1] == TEXT - 1).all()
    assert (span.inputs_ST[:, -1] == TEXT - 1).all()


def test_the_loss_of_documents_kept_apart_is_that_of_each_alone(shards: Path) -> None:
    """An end of text opens the document behind it, so that a row falls into its documents."""
    how = recipe(shards, "causal", "decoder", objective=Objective(documents="separate"))
    end, model = TEXT - 1, build(how.model, seed=0).double()
    row = np.array([[5, 6, 7, end, 8, 9, end, end, 10, 11, 12, 13, 14, 15, 16, end, 3]])
    terms = objectives.terms(how, text_vocabulary=TEXT)

    def nats(tokens: np.ndarray[Any, Any]) -> float:
        batch = objectives.load("causal").batch(tokens[:, :-1], tokens[:, 1:], Place(seed=0, step=0), terms)
        return task.loss(how, model, batch, CPU)[1].item() * batch.said

    alone = [row[:, a : b + 1] for a, b in itertools.pairwise([0, 3, 6, 7, 15, 16])]
    assert nats(row) == pytest.approx(sum(nats(document) for document in alone), rel=1e-9)
    attending = recipe(shards, "causal", "decoder")
    together = task.loss(attending, model, Batch(inputs_ST=row[:, :-1], targets_SU=row[:, 1:]), CPU)[1].item() * 16
    assert abs(together - nats(row)) > 1e-3


def test_an_encoder_that_keeps_documents_apart_does_not_see_the_others(shards: Path) -> None:
    how = recipe(shards, "masked", "encoder", objective=Objective(documents="separate"))
    model, end = build(how.model, seed=0).double(), TEXT - 1
    rows = np.array([[5, 6, 7, 8, end, 9, 10, 11], [5, 6, 7, 8, end, 20, 21, 22]])
    targets = np.full_like(rows, NOTHING)
    targets[:, 1] = 6
    documents = numbers(rows, end=end)
    apart = Batch(inputs_ST=rows, targets_SU=targets, documents_ST=documents)
    first, second = (task.loss(how, model, apart.rows(slice(i, i + 1)), CPU)[1].item() for i in range(2))
    assert first == second
    attending = structs.replace(apart, documents_ST=None)
    first, second = (task.loss(how, model, attending.rows(slice(i, i + 1)), CPU)[1].item() for i in range(2))
    assert first != second
