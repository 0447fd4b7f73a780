"""Shapes: N is hit, and the rules hold from ten thousand to a trillion parameters."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.count.parameters import parameters
from isoflop.errors import UsageError
from isoflop.plan.shape import shape, vocabulary_for

sizes = st.floats(math.log(1e5), math.log(1e12)).map(math.exp)


@given(n_params=sizes, counts=st.sampled_from(["total", "non_embedding", "matmul"]))
def test_n_is_hit_within_one_per_cent_by_every_convention(n_params: float, counts: str) -> None:
    architecture = shape(n_params, vocabulary=vocabulary_for(n_params), context=2048, counts=counts)  # type: ignore[arg-type]
    assert parameters(architecture).by(counts) == pytest.approx(n_params, rel=0.01)  # type: ignore[arg-type]


@given(n_params=st.floats(math.log(1e4), math.log(2e6)).map(math.exp), context=st.sampled_from([128, 256]))
def test_a_ladder_of_tiny_tied_models_hits_n_within_one_per_cent(n_params: float, context: int) -> None:
    architecture = shape(n_params, vocabulary=1024, context=context, tied=True)
    assert parameters(architecture).total == pytest.approx(n_params, rel=0.01)
    assert architecture.tied
    assert architecture.context == context


@given(n_params=sizes)
def test_the_shape_is_one_people_train(n_params: float) -> None:
    found = shape(n_params, vocabulary=vocabulary_for(n_params), context=2048)
    assert found.heads * found.head_size == found.width
    assert found.heads % found.kv_heads == 0
    assert found.heads >= 2
    usual = 128 if found.width >= 2048 else 64 if found.width >= 256 else 32 if found.width >= 128 else 16
    assert found.head_size in {math.gcd(usual, found.width), found.width // 2}
    assert 16 <= found.width / found.layers <= 200
    assert 1.5 <= found.hidden / found.width <= 5
    assert found.hidden % (64 if found.width >= 1024 else 1) == 0


@pytest.mark.parametrize(("n_params", "layers", "width"), [(8.03e9, 32, 4096), (70.6e9, 80, 8192), (1.24e8, 12, 768)])
def test_well_known_sizes_get_about_their_well_known_shapes(n_params: float, layers: int, width: int) -> None:
    found = shape(n_params, vocabulary=vocabulary_for(n_params), context=2048)
    assert found.layers == pytest.approx(layers, rel=0.2)
    assert found.width == pytest.approx(width, rel=0.2)


def test_a_larger_model_is_never_narrower() -> None:
    widths = [
        shape(10**e, vocabulary=1024, context=256, tied=True).width for e in (4, 4.5, 5, 5.5, 6, 6.5, 7, 8, 9, 10)
    ]
    assert widths == sorted(widths)


def test_the_head_is_tied_where_the_embedding_is_heavy_as_llama_3_and_tinyllama_do_it() -> None:
    assert shape(3.2e9, vocabulary=128_256, context=2048).tied
    assert not shape(8e9, vocabulary=128_256, context=2048).tied
    assert not shape(1.1e9, vocabulary=32_000, context=2048).tied


@pytest.mark.parametrize("n_params", [1e5, 1e6, 1e7, 1e8, 1e9, 1e10])
def test_the_vocabulary_rule_keeps_the_embedding_under_a_third(n_params: float) -> None:
    counted = parameters(shape(n_params, vocabulary=vocabulary_for(n_params), context=2048))
    assert counted.embedding + counted.head < counted.total / 3


@pytest.mark.parametrize("n_params", [4000.0, -1.0, math.nan, math.inf])
def test_a_size_that_no_decoder_has_is_refused(n_params: float) -> None:
    with pytest.raises(UsageError):
        shape(n_params, vocabulary=1024, context=256)
