"""How rotary frequencies are stretched, so that a model reads further than it was first trained to."""

from typing import TypeAlias

from msgspec import Struct

from isoflop.errors import UsageError


class _Scaling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind has.

    Attributes:
        factor: how much longer the context becomes; 1 changes nothing.
    """

    factor: float

    def __post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise UsageError(f"architecture: rope_scaling.factor is {self.factor}; it must be at least 1 and finite")

    def check(self, *, context: int, head_size: int) -> None:
        """Refuse what cannot be, in a model of this context and head size."""


class Linear(_Scaling, frozen=True, kw_only=True, tag="linear"):
    """Every frequency divided by `factor`: position interpolation (Chen et al. 2023, arXiv:2306.15595)."""


class _Stretched(_Scaling, frozen=True, kw_only=True):
    """Kinds that ask what the model has seen.

    Attributes:
        original_context: the context that it was first trained at.
    """

    original_context: int

    def check(self, *, context: int, head_size: int) -> None:
        """Refuse an original context that is none, or longer than the new one."""
        if not 1 <= self.original_context <= context:
            raise UsageError(
                f"architecture: rope_scaling.original_context is {self.original_context}; it must be at least 1 and at "
                f"most the context, {context}"
            )


class Dynamic(_Stretched, frozen=True, kw_only=True, tag="dynamic"):
    """A larger base, theta (f C / C0 - f + 1)**(S / (S - 2)), so that only low frequencies are stretched ("NTK-aware").

    C is the model's context, C0 the original one, S the head size. Others take the length of the text at hand for C;
    here it is always the context, so that what a model says of a text's beginning does not depend on its end.

    Source: Peng et al. 2023 (arXiv:2309.00071), definition 1 and sec. 3.3.
    """

    def check(self, *, context: int, head_size: int) -> None:
        """As others; a head of one pair of channels has no exponent."""
        super().check(context=context, head_size=head_size)
        if head_size < 4:
            raise UsageError(f'architecture: rope_scaling "dynamic" needs a head_size of at least 4, not {head_size}')


class Yarn(_Stretched, frozen=True, kw_only=True, tag="yarn"):
    """Frequencies that turn often within the original context stay, those that hardly turn are divided, a ramp between.

    Attributes:
        beta_fast: turns within the original context above which a frequency stays.
        beta_slow: turns below which it is divided by `factor`.
        attention_factor: queries and keys are multiplied by it; None takes 0.1 ln(factor) + 1.

    Source: Peng et al. 2023 (arXiv:2309.00071), sec. 3.2 and 3.4.
    """

    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_slow < self.beta_fast < float("inf"):
            raise UsageError(
                f"architecture: rope_scaling.beta_slow {self.beta_slow} and beta_fast {self.beta_fast} must be "
                "positive, the slow one below the fast one"
            )
        if self.attention_factor is not None and not 0 < self.attention_factor < float("inf"):
            raise UsageError(
                f"architecture: rope_scaling.attention_factor is {self.attention_factor}; it must be positive and "
                "finite"
            )


class Llama3(_Stretched, frozen=True, kw_only=True, tag="llama3"):
    """As YaRN, the ramp linear in turns: wavelengths above original / low are divided, below original / high they stay.

    Source: Grattafiori et al. 2024 (arXiv:2407.21783) and the configuration published with Llama 3.1.
    """

    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.low_frequency_factor < self.high_frequency_factor < float("inf"):
            raise UsageError(
                f"architecture: rope_scaling.low_frequency_factor {self.low_frequency_factor} and "
                f"high_frequency_factor {self.high_frequency_factor} must be positive, the low one below the high one"
            )


RopeScaling: TypeAlias = Linear | Dynamic | Yarn | Llama3
