"""Numbers that remember how they were computed: the counting code itself, run on them, writes its own formulas.

    layers, width = Traced.named("layers", 32), Traced.named("width", 4096)
    str(12 * layers * width**2)                      # "12 * layers * width ** 2", value 6442450944

What adds nothing (plus 0, times 1, times 0) leaves no trace, so a model without biases has a formula without them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)
# How tightly each operation binds; an atom binds tightest.
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "**": 3}
_ATOM = 4


class Traced:
    """A number with the formula it came from; it compares and hashes as the number."""

    __slots__ = ("binds", "formula", "value", "values")

    def __init__(self, value: float, formula: str, values: dict[str, float], binds: int) -> None:
        self.value, self.formula, self.values, self.binds = value, formula, values, binds

    @classmethod
    def named(cls, name: str, value: float) -> Traced:
        """A number known by its name."""
        return cls(value, name, {name: value}, _ATOM)

    @classmethod
    def of(cls, number: Number) -> Traced:
        """Any number; a bare one is its own formula."""
        return number if isinstance(number, Traced) else cls(number, _digits(number), {}, _ATOM)

    def __add__(self, other: Number) -> Traced:
        if (same := self._kept(other, 0)) is not None:
            return same
        return _joined(self, "+", other, operator.add)

    def __radd__(self, other: Number) -> Traced:
        if (same := self._kept(other, 0)) is not None:
            return same
        return _joined(other, "+", self, operator.add)

    def __sub__(self, other: Number) -> Traced:
        if (same := self._kept(other, 0)) is not None:
            return same
        return _joined(self, "-", other, operator.sub)

    def __rsub__(self, other: Number) -> Traced:
        return _joined(other, "-", self, operator.sub)

    def __mul__(self, other: Number) -> Traced:
        if (same := self._kept(other, 1)) is not None:
            return same
        return _joined(self, "*", other, operator.mul)

    def __rmul__(self, other: Number) -> Traced:
        if (same := self._kept(other, 1)) is not None:
            return same
        return _joined(other, "*", self, operator.mul)

    def __truediv__(self, other: Number) -> Traced:
        if (same := self._kept(other, 1)) is not None:
            return same
        return _joined(self, "/", other, operator.truediv)

    def __rtruediv__(self, other: Number) -> Traced:
        return _joined(other, "/", self, operator.truediv)

    def __floordiv__(self, other: Number) -> Traced:
        return _joined(self, "//", other, operator.floordiv)

    def __pow__(self, other: Number) -> Traced:
        return _joined(self, "**", other, operator.pow)

    def _kept(self, other: Number, neutral: int) -> Traced | None:
        """This number unchanged, where the other is a bare neutral one; a float makes it one."""
        if isinstance(other, Traced) or other != neutral:
            return None
        value = float(self.value) if isinstance(other, float) else self.value
        return Traced(value, self.formula, self.values, self.binds)

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Traced) else other)

    def __lt__(self, other: Number) -> bool:
        return self.value < _bare(other)

    def __le__(self, other: Number) -> bool:
        return self.value <= _bare(other)

    def __gt__(self, other: Number) -> bool:
        return self.value > _bare(other)

    def __ge__(self, other: Number) -> bool:
        return self.value >= _bare(other)

    def __mod__(self, other: Number) -> float:
        return self.value % _bare(other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"{self.formula} = {plain(self.value)}"


Number: TypeAlias = Traced | int | float


def _bare(number: Number) -> float:
    return number.value if isinstance(number, Traced) else number


def _joined(left: Number, sign: str, right: Number, compute: Callable[[float, float], float]) -> Traced:
    """The result, with parentheses where they are needed; a product with a bare 0 is that 0."""
    one, other = Traced.of(left), Traced.of(right)
    value = compute(one.value, other.value)
    if sign == "*" and not (one.value and other.value) and not (one.values and other.values):
        return Traced(value, _digits(value), {}, _ATOM)
    if sign in "+-" and other.formula == "0" and not other.values:
        return one
    if sign == "+" and one.formula == "0" and not one.values:
        return other
    binds = _BINDS[sign]
    # a - (b - c), a / (b * c) and (a ** b) ** c need theirs; a + (b - c) and a * (b * c) do not.
    first = f"({one.formula})" if one.binds < binds or (sign == "**" and one.binds == binds) else one.formula
    strict = sign in ("-", "/", "//") or (sign == "*" and "/" in other.formula)
    second = f"({other.formula})" if other.binds < binds or (strict and other.binds == binds) else other.formula
    return Traced(value, f"{first} {sign} {second}", one.values | other.values, binds)


def _digits(number: float) -> str:
    """A bare number as a formula holds it: all its digits, so that the formula gives its value back."""
    text = plain(number) if abs(number) < 1e18 and number == int(number) else repr(number)
    return f"({text})" if number < 0 else text


def plain(number: float) -> str:
    """All digits of a count, six of a measurement."""
    return f"{number:.0f}" if abs(number) < 1e18 and number == int(number) else f"{number:.6g}"


def trace(spec: S, *, prefix: str = "", ending: str = "") -> S:
    """The same value with every number in it known by the name of its field.

    Numbers of nested values keep their own names where no other has them: those of a block's attention and MLP. Others
    get the way there in front (`cross_heads`, `expert_hidden`), and kinds of blocks beside each other a number behind
    (`layers_1`), with the stack they belong to where there are two (`layers_encoder_1`). A 0 stays bare: what is not
    there needs no name.
    """
    found: dict[str, Any] = {}
    lists = [name for name in spec.__struct_fields__ if getattr(spec, name) and isinstance(getattr(spec, name), tuple)]
    for name in spec.__struct_fields__:
        value = getattr(spec, name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            value = Traced.named(f"{prefix}{name}{ending}", value)
        elif isinstance(value, msgspec.Struct):
            value = trace(value, prefix=prefix + _PREFIXES.get(name, f"{name}_"), ending=ending)
        elif name in lists:
            stack = f"{ending}_{name}" if len(lists) > 1 else ending
            value = tuple(
                trace(each, prefix=prefix, ending=f"{stack}_{number}" if len(value) > 1 else stack)
                for number, each in enumerate(value, start=1)
            )
        found[name] = value
    return type(spec)(**found)


_PREFIXES = {"attention": "", "mlp": ""}
