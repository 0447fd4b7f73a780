"""Many decoders at once: the closed forms of `parameters` and `flops` on arrays."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from isoflop.count.flops import FlopCount, count
from isoflop.count.parameters import of_decoder
from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.architecture import Decoder


def sweep(architecture: Decoder, *, sequence: ArrayLike, causal: bool = False, **fields: ArrayLike) -> FlopCount:
    """Count variants of a decoder, all in one pass.

    Args:
        architecture: what every variant is but for `fields`.
        sequence: tokens of a sequence.
        causal: as in `flops_per_token`.
        fields: sizes of `Decoder` (layers, width, hidden, ...), arrays that broadcast against each other.

    Returns:
        Work of a token and, as its `parameters`, counts by kind. A number has the shape of the arrays it depends on, so
        that all of them broadcast to the shape of all arrays together.

    Raises:
        UnknownNameError: a field that no decoder has.
        UsageError: a mixture of experts, a window, a size that is not a whole number of at least 1, heads that do not
            divide into kv_heads, shapes that do not go together.
    """
    for told, unlike in (("mixtures of experts", architecture.experts), ("windows", architecture.window)):
        if unlike is not None:
            raise UsageError(f"sweep: {told} are counted one by one, by `flops_per_token`")
    held = {name: getattr(architecture, name) for name in Decoder.__struct_fields__}
    sizes = [name for name, value in held.items() if isinstance(value, int) and not isinstance(value, bool)]
    for name in fields:
        if name not in sizes:
            raise UnknownNameError("size of a decoder", name, sizes)
    arrays = {name: _whole(name, value) for name, value in {"sequence": sequence, **fields}.items()}
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as error:
        raise UsageError(f"sweep: arrays of {', '.join(arrays)} do not broadcast: {error}") from error
    variants = SimpleNamespace(**held | {name: array for name, array in arrays.items() if name != "sequence"})
    if np.any(variants.heads % variants.kv_heads):
        raise UsageError("sweep: heads do not divide into kv_heads in some variant")
    # The formulas are arithmetic alone, so that what holds for one decoder's numbers holds for arrays of them.
    decoders = cast(Decoder, variants)
    reals = {name: array.astype(float) for name, array in arrays.items() if name != "sequence"}
    if np.max(of_decoder(cast(Decoder, SimpleNamespace(**held | reals))).total) >= 2.0**62:
        raise UsageError("sweep: some variant has more parameters than 64 bits can count")
    return count(decoders, of_decoder(decoders), sequence=cast(Any, arrays["sequence"]), causal=causal, target=0)


def _whole(name: str, value: ArrayLike) -> "np.ndarray[Any, np.dtype[np.int64]]":
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or np.any(array != np.floor(array)) or np.any(array < 1):
        raise UsageError(f"sweep: {name} must hold whole numbers of at least 1")
    return array.astype(np.int64)
