"""A mixture and its stages: shares are ratios of whole numbers, and what could be misread is refused."""

import tomllib
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.data import parts
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import changed, parse
from isoflop.specs.rotary import Linear

TEXT = """
name = "anneal"
n_tokens = 100_000
batch_tokens = 1024

[model]
layers = 2
width = 64
heads = 2
kv_heads = 2
head_size = 32
hidden = 192
vocabulary = 1024
context = 128

[[data.sources]]
name = "code"
shards = "shards/code"
weight = 0.7

[[data.sources]]
name = "prose"
shards = "shards/prose"
weight = 0.3

[[data.stages]]
at_tokens = 60_000
weights = { prose = 1 }

[[data.stages]]
at_tokens = 80_000
context = 512
rope_theta = 40_000.0
"""


def content() -> dict[str, Any]:
    return tomllib.loads(TEXT)


def recipe() -> Recipe:
    return parse(content(), where="here")


def test_what_a_stage_leaves_out_stays_as_it_was() -> None:
    first, second, third = recipe().phases
    assert [phase.begins for phase in (first, second, third)] == [0, 58, 78]  # rounded down to whole steps
    assert [phase.parts for phase in (first, second, third)] == [(7, 3), (0, 1), (0, 1)]
    assert first.model == second.model == recipe().model
    assert third.model == replace(recipe().model, context=512, rope_theta=40_000.0)


def test_a_phase_keeps_the_tokens_of_a_batch() -> None:
    mixed = recipe()
    inside = [mixed.within(phase) for phase in mixed.phases]
    assert [one.sequences for one in inside] == [8, 8, 2]
    assert [one.sequences * one.model.context for one in inside] == [1024] * 3
    assert all(one.data.stages == () for one in inside)


def test_one_folder_is_a_mixture_of_one_and_the_same_run() -> None:
    plain = parse({**content(), "data": {}, "shards": "shards/code"}, where="here")
    of_one = parse({**content(), "data": {"sources": [{"name": "a", "shards": "x", "weight": 3}]}}, where="here")
    assert plain.sources[0].shards == "shards/code"
    assert plain.key(data_sha256="a") == of_one.key(data_sha256="a")


def test_the_key_knows_shares_and_not_weights_names_or_folders() -> None:
    mixed = recipe()
    told = [replace(source, name=source.name.upper(), weight=source.weight * 10) for source in mixed.data.sources]
    stages = tuple(replace(s, weights={name.upper(): w for name, w in s.weights.items()}) for s in mixed.data.stages)
    same = replace(mixed, data=replace(mixed.data, sources=tuple(told), stages=stages))
    assert same.key(data_sha256="a") == mixed.key(data_sha256="a")


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(any), st.sampled_from([1, 10, 1000]))
def test_decimal_weights_are_whole_numbers_exactly(weights: list[int], unit: int) -> None:
    found = parts([weight / unit for weight in weights])
    total = sum(found)
    assert [Fraction(part, total) for part in found] == [Fraction(weight, sum(weights)) for weight in weights]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9).filter(any))
def test_any_weights_are_met_to_a_billionth_and_none_is_lost(weights: list[float]) -> None:
    found, total = parts(weights), sum(weights)
    assert all((part > 0) == (weight > 0) for part, weight in zip(found, weights, strict=True))
    assert [part / sum(found) for part in found] == pytest.approx([w / total for w in weights], abs=1e-8)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"sources": [{"name": "a", "shards": "x", "weight": -1}]}, "sources.a.weight is -1.0; it must be 0 or more"),
        ({"sources": [{"name": "a.b", "shards": "x", "weight": 1}]}, "a word without dots"),
        ({"sources": [{"name": "a", "shards": "x", "weight": 0}]}, "all weights are 0"),
        ({"sources": [{"name": "a", "shards": "x", "weight": 1}] * 2}, "'a' is the name of two"),
        ({"stages": [{"at_tokens": 60_000}]}, "shards is missing"),
    ],
)  # fmt: skip
def test_a_mixture_that_cannot_be_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse({**content(), "data": table}, where="here")


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"at_tokens": 0, "context": 256}], "at_tokens is 0; it must be above 0"),
        ([{"at_tokens": 60_000}], "nothing changes at 60000 tokens"),
        ([{"at_tokens": 1000, "context": 256}], "at_tokens 1000 is step 0"),
        ([{"at_tokens": 99_400, "context": 256}], "is step 97, .* before the end, 97"),
        ([{"at_tokens": 60_000, "context": 256}, {"at_tokens": 60_100, "context": 512}], "behind step 58"),
        ([{"at_tokens": 60_000, "context": 300}], "batch_tokens 1024 is not a multiple of the context 300"),
        ([{"at_tokens": 60_000, "weights": {"cod": 1}}], "no source is called 'cod'; there are code, prose"),
        ([{"at_tokens": 60_000, "weights": {"code": 0}}], "all weights are 0"),
        ([{"at_tokens": 60_000, "weights": {"code": float("nan")}}], "weights.code is nan"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(stages: list[dict[str, Any]], said: str) -> None:
    told = content()
    told["data"]["stages"] = stages
    with pytest.raises(UsageError, match=said):
        parse(told, where="here")


def test_shards_and_sources_are_one_or_the_other() -> None:
    with pytest.raises(UsageError, match=r"shards is 'x' and there are data\.sources; give one of the two"):
        parse({**content(), "shards": "x"}, where="here")
    with pytest.raises(UsageError, match="here: shards is missing"):
        parse({**content(), "data": {}}, where="here")


def test_a_source_is_set_by_its_name_and_a_stage_by_its_number() -> None:
    told = changed(recipe(), ["data.sources.code.weight=0.1", "data.stages.1.rope_scaling={kind='linear', factor=4}"])
    assert told.data.sources[0].weight == 0.1
    assert told.data.stages[1].rope_scaling == Linear(factor=4.0)
    with pytest.raises(UnknownNameError, match="did you mean 'code'"):
        changed(recipe(), ["data.sources.cod.weight=0.1"])
    with pytest.raises(UsageError, match="sources is a list of tables"):
        changed(recipe(), ["data.sources.weight=0.1"])


def test_a_wrong_key_in_a_list_of_tables_is_answered_with_the_nearest() -> None:
    told = content()
    told["data"]["sources"][1]["wieght"] = 1
    with pytest.raises(
        UnknownNameError, match=r"data\.sources\.prose\.wieght.*did you mean.*data\.sources\.prose\.weight"
    ):
        parse(told, where="here")
