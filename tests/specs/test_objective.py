"""What can be learned by whom is said before anything is built, and so is what a sequence holds."""

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.architecture import Decoder, Encoder, EncoderDecoder
from isoflop.specs.objective import Family, Name, Objective
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import parse

DECODER = Decoder(layers=2, width=64, heads=2, kv_heads=2, head_size=32, hidden=192, vocabulary=1024, context=128)
ENCODER = Encoder(layers=2, width=64, heads=2, head_size=32, hidden=256, vocabulary=1025, context=128)
T5 = EncoderDecoder(layers=2, width=64, heads=2, head_size=32, hidden=256, vocabulary=32_128, context=512)
RECIPE = Recipe(name="a", shards="shards", model=DECODER, n_tokens=100_000, batch_tokens=1024)


@pytest.mark.parametrize(
    ("family", "usual"), [("decoder", "causal"), ("encoder", "masked"), ("encoder-decoder", "span")]
)
def test_a_family_learns_what_is_usual_for_it(family: Family, usual: Name) -> None:
    assert Objective().settled(family).name == usual


@pytest.mark.parametrize(
    ("name", "family", "said"),
    [
        (
            "masked",
            "decoder",
            'needs a model of family "encoder"; this one is "decoder", which learns causal or prefix',
        ),
        ("causal", "encoder", 'needs a model of family "decoder"; this one is "encoder", which learns masked'),
        ("span", "decoder", 'needs a model of family "encoder-decoder"'),
        ("prefix", "encoder", 'needs a model of family "decoder" or "encoder-decoder"'),
    ],
)
def test_what_a_model_cannot_learn_is_refused_with_what_it_can(name: Name, family: Family, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Objective(name=name).settled(family)


@pytest.mark.parametrize(
    ("option", "value", "name", "family"),
    [
        ("rate", 0.2, "causal", "decoder"), ("mean_span", 2.0, "masked", "encoder"),
        ("hidden", 0.5, "span", "encoder-decoder"), ("documents", "separate", "prefix", "decoder"),
    ],
)  # fmt: skip
def test_what_an_objective_does_not_know_is_not_passed_over(
    option: str, value: object, name: Name, family: Family
) -> None:
    with pytest.raises(UsageError, match=f'objective.{option} is set, but objective "{name}" does not know it'):
        Objective(name=name, **{option: value}).settled(family)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0.0}, "objective.rate is 0.0"), ({"rate": 1.0}, "objective.rate is 1.0"),
        ({"rate": float("nan")}, "objective.rate is nan"), ({"mean_span": 0.5}, "objective.mean_span is 0.5"),
        ({"hidden": 0.95}, "together at most 1"), ({"hidden": -0.1}, "objective.hidden -0.1"),
        ({"hidden": float("nan")}, "objective.hidden nan"), ({"replaced": 0.3}, "together at most 1"),
    ],
)  # fmt: skip
def test_shares_that_are_none_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=f"^recipe: .*{said}"):
        Objective(**options)  # type: ignore[arg-type]


def test_t5_makes_512_and_114_tokens_of_568_and_needs_28_sentinels() -> None:
    row = Objective().settled("encoder-decoder").row(512, "encoder-decoder")
    assert (row.text, row.inputs, row.outputs, row.said, row.extra_ids) == (568, 512, 114, 114, 28)


def test_batches_are_counted_in_text_and_the_nearest_that_fit_are_named() -> None:
    with pytest.raises(
        UsageError, match='multiple of the 568 tokens of text that a sequence of "span" holds; take 568 or'
    ):
        replace(RECIPE, model=T5)
    with pytest.raises(UsageError, match=r"holds; take 568$"):
        replace(RECIPE, model=T5, batch_tokens=512)
    recipe = replace(RECIPE, model=T5, batch_tokens=1136)
    assert (recipe.sequences, recipe.steps) == (2, 88)
    assert replace(RECIPE, model=T5, objective=Objective(name="prefix")).sequences == 1


def test_masking_less_than_a_token_of_a_sequence_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rate 0\.15 of a context of 6 tokens is less than one token"):
        replace(RECIPE, model=replace(ENCODER, context=6), batch_tokens=6)


def test_a_context_that_holds_no_span_is_refused() -> None:
    with pytest.raises(UsageError, match="inputs of 2 tokens hold no text"):
        replace(RECIPE, model=replace(T5, context=2))


def test_what_is_usual_may_be_said_or_left_out_of_the_same_run() -> None:
    data = "a" * 64
    said = replace(RECIPE, objective=Objective(name="causal", documents="attend"))
    assert said.key(data_sha256=data) == RECIPE.key(data_sha256=data)
    masked = replace(RECIPE, model=ENCODER)
    full = replace(masked, objective=Objective(name="masked", rate=0.15, hidden=0.8, replaced=0.1, documents="attend"))
    assert full.key(data_sha256=data) == masked.key(data_sha256=data)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"name": "mask"}, "no objective.name in here named 'mask'; did you mean 'masked'"),
        ({"mean_spans": 3}, "objective.mean_spans.*did you mean 'objective.mean_span'"),
        ({"documents": "seperate"}, "did you mean 'separate'"),
    ],
)
def test_a_slip_in_the_table_is_answered_with_the_nearest_name(table: dict[str, object], said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        parse({**to_builtins(RECIPE), "objective": table}, where="here")
