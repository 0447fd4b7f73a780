"""Layouts as columns: one arithmetic for one layout and for ten thousand.

Each field of a `Layout` and a `Training` is a value or an array; arrays broadcast against each other. A name ("zero3")
becomes the number a formula needs by `pick`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from msgspec import structs

from isoflop.count.memory_states import CACHE_BYTES, COMPUTE_BYTES, FROZEN_BYTES, per_parameter
from isoflop.errors import UnknownNameError, UsageError
from isoflop.specs.layout import Layout, LossHead, Method, OptimizerName, Precision, Recompute, Sharding, Training

Number: TypeAlias = Any
"""A float or an array of them: numpy computes both alike, and its types do not tell which comes out."""

_NAMES: dict[str, tuple[str, ...]] = {
    "sharding": get_args(Sharding),
    "recompute": get_args(Recompute),
    "precision": get_args(Precision),
    "optimizer": get_args(OptimizerName),
    "loss_head": get_args(LossHead),
    "method": get_args(Method),
}


class Columns:
    """Layouts and what is trained on them, field by field.

    Attributes:
        tokens: per data-parallel device and micro-batch, T.
        said: share of them that the loss is of, beyond 1 where an encoder-decoder writes more than it reads.
        shards: devices that share one replica's states, context parallel ones among them.
        compute: bytes of an activation.
        cache_width: bytes of a cached key or value.
        residual: bytes of the residual stream, 4 under autocast.
        gradient_width: bytes of a gradient as the backward pass makes it, before it is summed.
        learns: 1 where every weight is trained, 0 where adapters are.
        unpacked: 1 where weights are unpacked to 16 bit block by block.
        autocast: 1 where fp32 weights are copied to 16 bit for every product, 0 elsewhere.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        known = [field.name for kind in (Layout, Training) for field in structs.fields(kind)]
        for name in fields:
            if name not in known:
                raise UnknownNameError("field of a layout", name, known)
        self._codes = {name: _codes(name, fields[name], names) for name, names in _NAMES.items()}
        degrees = {name: np.asarray(value, dtype=float) for name, value in fields.items() if name not in _NAMES}
        adapter = degrees.pop("adapter_rank")
        self.adapter = np.where(np.isnan(adapter), 0.0, adapter)
        said = degrees.pop("said")
        for name, value in degrees.items():
            if not np.all(value >= 1):
                raise UsageError(f"layout: {name} is {np.min(value):g}; it must be at least 1")
        self.tensor, self.pipeline, self.context = (degrees[name] for name in ("tensor", "pipeline", "context"))
        self.expert, self.virtual_stages = degrees["expert"], degrees["virtual_stages"]
        self.accumulation, self.devices = degrees["accumulation"], degrees["devices"]
        self.sequence, self.micro_batch = degrees["sequence"], degrees["micro_batch"]
        self.said = np.where(np.isnan(said), 1.0, said / self.sequence)
        self.data = self.devices / (self.tensor * self.pipeline * self.context)
        self.shards = self.data * self.context / degrees["replicas"]
        if np.any(self.shards < 1):
            raise UsageError("layout: fewer devices than tensor x pipeline x context x replicas")
        self.stage = self.pick("sharding", {"ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3})
        pairs = self.pick("method", {"dpo": 2}, 1)
        self.tokens = self.micro_batch * pairs * self.sequence / self.context
        self.compute = self.pick("precision", COMPUTE_BYTES)
        self.frozen = self.pick("precision", FROZEN_BYTES)
        self.cache_width = self.pick("precision", CACHE_BYTES)
        self.learns = (self.adapter == 0) * 1.0
        self.autocast = (self.stage == 0) * (self.compute < 4) * self.learns
        self.unpacked = self.pick("precision", {"int8": 1})
        self.residual = np.where(self.autocast > 0, 4.0, self.compute)
        self.gradient_width = self.residual

    @staticmethod
    def of(layout: Layout, training: Training) -> "Columns":
        """One layout."""
        given = {**structs.asdict(layout), **structs.asdict(training)}
        return Columns({name: np.nan if value is None else value for name, value in given.items()})

    def pick(self, column: str, numbers: Mapping[Any, float], other: float = 0.0) -> Number:
        """The number that each name of a column stands for."""
        table = np.array([numbers.get(name, other) for name in _NAMES[column]], dtype=float)
        return np.asarray(table[self._codes[column]])

    def per_parameter(self, what: str) -> Number:
        """Bytes a trained parameter: "weight", "gradient", "optimizer" or "optimizer_rest"."""
        precisions, shardings, optimizers = (_NAMES[name] for name in ("precision", "sharding", "optimizer"))
        table = np.array(
            [
                [[getattr(per_parameter(p, sharding=s, optimizer=o), what) for o in optimizers] for s in shardings]  # type: ignore[arg-type]
                for p in precisions
            ]
        )
        return np.asarray(table[self._codes["precision"], self._codes["sharding"], self._codes["optimizer"]])


def _codes(column: str, names: Any, known: tuple[str, ...]) -> npt.NDArray[np.intp]:
    """Each name's place among the known ones."""
    given = np.asarray(names)
    codes = np.full(given.shape, -1, dtype=np.intp)
    for code, name in enumerate(known):
        codes[given == name] = code
    if np.any(codes < 0):
        raise UnknownNameError(column, str(given[codes < 0].flat[0]), known)
    return codes
