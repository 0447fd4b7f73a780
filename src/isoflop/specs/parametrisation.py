"""How a tuned small model's learning rate is carried to a wider or deeper one: standard, muP, CompleteP.

With m = width / base_width and l = layers / base_layers, every rule is a factor on what the standard parametrisation
has at the base sizes; there all of them are 1 and the three are the same run, bit for bit. "init" is the standard
deviation, "lr", "eps" and "decay" are AdamW's, whose step takes lr * decay off a weight.

    weight                    init                lr         eps            decay
    embedding                 base's              1          1/m            1
    head, untied              base's              1          1/m            1
    matrix in a block         base's / sqrt(m)    1/m        1/m [1/(m l)]  1 [m]
    router of experts         base's / m          1/m        1/m [1/(m l)]  1 [m]
    norm in a block, bias     base's              1          1/m [1/(m l)]  1
    last norm                 base's              1          1/m            1

    logits * 1/m;  attention sqrt(base head size) / head size;  [each branch * 1/l before it is added]

In brackets what CompleteP has beyond muP, or in its place; its lr would go by depth as l^(alpha - 1), which is 1.

Sources. muP: Yang et al. 2022 (arXiv:2203.03466), table 8 (the form with a multiplier on the logits, the only one that
can tie the head to the embedding; the router is its table 3's output weight), definition 4.1 (attention). Epsilon, and
CompleteP: Dey et al. 2025 (arXiv:2505.01618), table 1 with alpha = 1 and eq. 40.
Own decisions: muP says nothing of depth, so there the init of what writes into the residual stream keeps the standard
1/sqrt(2 layers), and CompleteP has the base's. QK-norm changes no rule: it fixes the length of queries and keys but not
their product, which is head size times their cosine and grows once they align, muP's very argument for 1 / head size.

Muon (Jordan 2024) moves the matrices by orthogonal updates. A change is felt alike at every width if its spectral norm
goes as sqrt(rows / columns) (Yang, Simon & Bernstein 2023, arXiv:2310.17813, condition 1): "spectral" updates do, so
their lr stays; "adamw-rms" ones are sqrt(m) too large, so theirs is divided by it. CompleteP's decay again keeps
lr * decay.
"""

import math
from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.specs.architecture import Architecture, Decoder, ParameterCount

ParametrisationName: TypeAlias = Literal["standard", "mup", "completep"]
Part: TypeAlias = Literal["embedding", "head", "norm", "block norm", "matrix", "router"]
"""What a weight is: "norm" is the last one, "block norm" any vector of a block, "matrix" what is left of a block."""


class Parametrisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules carry the learning rate from the base sizes, where it was tuned, to the recipe's own.

    Hidden width and heads x head size are taken to grow as the width does.

    Attributes:
        name: "standard" for none, "mup" across widths, "completep" across widths and depths.
        base_width: `model.width` of the tuned recipe; None takes the recipe's own: nothing changes with width.
        base_layers: `model.layers` of the tuned recipe, for "completep"; None likewise.
        base_head_size: `model.head_size` of the tuned recipe; None where heads grow in number and not in size.
    """

    name: ParametrisationName = "standard"
    base_width: int | None = None
    base_layers: int | None = None
    base_head_size: int | None = None

    def __post_init__(self) -> None:
        bases = {"base_width": self.base_width, "base_layers": self.base_layers, "base_head_size": self.base_head_size}
        for name, value in bases.items():
            if value is None:
                continue
            if self.name == "standard":
                raise UsageError(
                    f'recipe: parametrisation.{name} is set, but parametrisation.name is "standard"; set it to "mup" '
                    f'or "completep", or leave {name} out'
                )
            if value < 1:
                raise UsageError(f"recipe: parametrisation.{name} is {value}; it must be at least 1")
        if self.name == "mup" and self.base_layers is not None:
            raise UsageError(
                'recipe: parametrisation.base_layers is set, but "mup" has no rule for depth; take "completep", or '
                "leave it out"
            )
        if self.name == "mup" and self.base_width is None:
            raise UsageError(
                'recipe: parametrisation "mup" needs base_width, the model.width at which optimizer.learning_rate was '
                "tuned; its rules are of decoders"
            )
        if self.name == "completep" and self.base_width is None and self.base_layers is None:
            raise UsageError(
                'recipe: parametrisation "completep" needs base_width, base_layers or both: the model.width and '
                "model.layers at which optimizer.learning_rate was tuned; its rules are of decoders"
            )


class Rule(Struct, frozen=True, kw_only=True):
    """Factors on what the standard parametrisation gives a weight of this model: 1 where the two agree."""

    init: float = 1.0
    learning_rate: float = 1.0
    epsilon: float = 1.0
    weight_decay: float = 1.0


class Scales(Struct, frozen=True, kw_only=True):
    """The rules for one model.

    Attributes:
        name: of the parametrisation.
        width, depth: the model's over the base's.
        attention: on the product of query and key; None for the usual 1 / sqrt(head size).
    """

    name: ParametrisationName = "standard"
    width: float = 1.0
    depth: float = 1.0
    attention: float | None = None

    @property
    def branch(self) -> float:
        """On what a block's attention or MLP adds to the residual stream."""
        return 1 / self.depth

    @property
    def logits(self) -> float:
        """On the logits."""
        return 1 / self.width

    def describe(self) -> str:
        """What it changes, in a sentence; empty for the standard."""
        if self.name == "standard":
            return ""
        depth = f", depth {self.depth:g}" if self.name == "completep" else ""
        return f"{self.name}: width {self.width:g}{depth} times the base's, where the learning rate belongs"

    def base_params(self, counted: ParameterCount) -> float:
        """Parameters of the base, from this model's: blocks go as depth times width squared, the rest as width.

        Within a per cent: gains of queries and keys and the last norm do not go quite so.
        """
        wide = counted.embedding + counted.head + counted.norm / self.depth
        return wide / self.width + (counted.non_embedding - counted.norm) / (self.depth * self.width**2)

    def rule(self, part: Part, *, writes: bool = False) -> Rule:
        """What a weight has beyond the standard parametrisation at this size.

        Args:
            writes: a matrix whose output is added to the residual stream.
        """
        complete, epsilon = self.name == "completep", 1 / self.width
        in_block = epsilon / self.depth
        if self.name == "standard":
            return Rule()
        match part:
            case "embedding" | "head":  # the standard's init is 1 / sqrt(width)
                return Rule(init=math.sqrt(self.width), epsilon=epsilon)
            case "norm":
                return Rule(epsilon=epsilon)
            case "block norm":
                return Rule(epsilon=in_block)
            case "matrix" | "router":  # the standard's init is 1 / sqrt(fan in), and / sqrt(2 layers) if it writes
                init = math.sqrt(self.depth) if writes else 1.0
                return Rule(
                    init=init / math.sqrt(self.width) if part == "router" else init,
                    learning_rate=1 / self.width,
                    epsilon=in_block,
                    weight_decay=self.width if complete else 1.0,
                )

    def muon(self, *, spectral: bool) -> Rule:
        """What a matrix moved by Muon has beyond the standard parametrisation at this size."""
        rate = 1.0 if spectral else 1 / math.sqrt(self.width)
        return Rule(learning_rate=rate, weight_decay=1 / rate if self.name == "completep" else 1.0)


STANDARD = Scales()


def scales(parametrisation: Parametrisation, model: Architecture) -> Scales:
    """The rules for this model.

    Raises:
        UsageError: there are none for its family; the sources' are of pre-norm decoders.
    """
    if parametrisation.name == "standard":
        return STANDARD
    if not isinstance(model, Decoder):
        raise UsageError(
            f'recipe: parametrisation "{parametrisation.name}" has rules for decoders alone; take "standard" for this '
            "model"
        )
    base_head_size = parametrisation.base_head_size or model.head_size
    return Scales(
        name=parametrisation.name,
        width=model.width / (parametrisation.base_width or model.width),
        depth=model.layers / (parametrisation.base_layers or model.layers),
        attention=None if base_head_size == model.head_size else math.sqrt(base_head_size) / model.head_size,
    )
