"""What a run learns: which tokens are read, which are to be said, and what a sequence of a context makes of text.

    causal   every next token, of a decoder
    masked   tokens hidden, replaced or left in their places, of an encoder (Devlin et al. 2019, arXiv:1810.04805)
    span     spans after their sentinels, of an encoder-decoder (Raffel et al. 2020, arXiv:1910.10683)
    prefix   what follows a prefix that is read both ways, of a decoder, or of an encoder-decoder whose encoder reads it

Ids: text uses those of its tokenizer. The mask is the first id above them; sentinels are counted down from the model's
last, as T5's are; the end of text, which closes each document, opens what a decoder says and closes spans.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

from msgspec import Struct, structs

from isoflop.errors import UsageError
from isoflop.specs.spans import Spans, lengths, text_length

Name: TypeAlias = Literal["causal", "masked", "span", "prefix"]
Documents: TypeAlias = Literal["attend", "separate"]
Family: TypeAlias = Literal["decoder", "encoder", "encoder-decoder"]

FAMILIES: Mapping[Name, tuple[Family, ...]] = {
    "causal": ("decoder",),
    "masked": ("encoder",),
    "span": ("encoder-decoder",),
    "prefix": ("decoder", "encoder-decoder"),
}
"""Who can learn what; the first objective that a family has here is its usual one."""

_OPTIONS: Mapping[Name, Mapping[str, object]] = {
    "causal": {"documents": "attend"},
    "masked": {"documents": "attend", "rate": 0.15, "hidden": 0.8, "replaced": 0.1},
    "span": {"rate": 0.15, "mean_span": 3.0},
    "prefix": {},
}
"""What an objective can be told, and what it takes where it is not."""


class Row(Struct, frozen=True, kw_only=True):
    """What one sequence takes and gives.

    Attributes:
        text: tokens of text that it is made of; a run counts these.
        inputs: tokens that the model, or its encoder, reads.
        outputs: tokens that the decoder of an encoder-decoder reads and says; 0 elsewhere.
        said: tokens that the loss is a mean over, on average.
        extra_ids: ids needed above those of the text.
    """

    text: int
    inputs: int
    outputs: int
    said: float
    extra_ids: int


class Objective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[objective]` of a recipe; what is left out is settled by the family of the model.

    Attributes:
        name: None takes what is usual: "causal" for a decoder, "masked" for an encoder, "span" for an encoder-decoder.
        documents: whether tokens see beyond the end of text before them, "attend", or "separate" each document; of
            causal and masked.
        rate: share of the text that is masked, or lost in spans; None takes 0.15.
        hidden: share of the masked tokens that the mask stands for; None takes 0.8.
        replaced: share of the masked tokens that another token stands for; None takes 0.1, and the rest is left.
        mean_span: tokens of a span on average; None takes 3.
    """

    name: Name | None = None
    documents: Documents | None = None
    rate: float | None = None
    hidden: float | None = None
    replaced: float | None = None
    mean_span: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < 1:
            raise UsageError(f"recipe: objective.rate is {self.rate}; it must lie between 0 and 1")
        if self.mean_span is not None and not 1 <= self.mean_span < float("inf"):
            raise UsageError(f"recipe: objective.mean_span is {self.mean_span}; it must be at least 1 and finite")
        hidden = 0.8 if self.hidden is None else self.hidden
        replaced = 0.1 if self.replaced is None else self.replaced
        if not (hidden >= 0 and replaced >= 0 and hidden + replaced <= 1 + 1e-12):
            raise UsageError(
                f"recipe: objective.hidden {hidden} and objective.replaced {replaced} are shares of the masked "
                "tokens, together at most 1"
            )

    def settled(self, family: Family) -> "Objective":
        """The same with all that is left to the family said.

        Raises:
            UsageError: a model of that family cannot learn it, or something is said that the objective does not know.
        """
        can = [name for name, families in FAMILIES.items() if family in families]
        name = self.name or can[0]
        if name not in can:
            needed = " or ".join(f'"{one}"' for one in FAMILIES[name])
            raise UsageError(
                f'recipe: objective "{name}" needs a model of family {needed}; this one is "{family}", which learns '
                f"{' or '.join(can)}"
            )
        told = {field: value for field, value in structs.asdict(self).items() if field != "name" and value is not None}
        if foreign := [field for field in told if field not in _OPTIONS[name]]:
            raise UsageError(
                f'recipe: objective.{foreign[0]} is set, but objective "{name}" does not know it; leave it out, '
                f"or say --set 'objective={{name=\"{name}\"}}' for a table of its own"
            )
        return structs.replace(self, name=name, **{**_OPTIONS[name], **told})

    @property
    def unusual(self) -> dict[str, Any]:
        """What a settled objective was told that is not what it takes anyway.

        Keys of runs and names of validations are made of this, so that an option younger than a run changes neither.
        """
        usual = {"name": self.name, **_OPTIONS[cast(Name, self.name)]}
        return {name: value for name, value in structs.asdict(self).items() if value != usual.get(name)}

    @property
    def spans(self) -> Spans:
        """Of a settled "span"."""
        return Spans(rate=cast(float, self.rate), mean_span=cast(float, self.mean_span))

    def row(self, context: int, family: Family) -> Row:
        """Of a settled objective.

        Raises:
            UsageError: the context is too short for it.
        """
        if self.name == "masked":
            said = cast(float, self.rate) * context
            if said < 1:
                raise UsageError(
                    f"recipe: objective.rate {self.rate} of a context of {context} tokens is less than one token to say"
                )
            return Row(text=context, inputs=context, outputs=0, said=said, extra_ids=1)
        if self.name == "span":
            of = lengths(text_length(context, self.spans), self.spans)
            return Row(text=of.text, inputs=of.inputs, outputs=of.targets, said=of.targets, extra_ids=of.spans)
        if family == "encoder-decoder":
            return Row(text=2 * context, inputs=context, outputs=context, said=context, extra_ids=0)
        said = (context + 1) / 2 if self.name == "prefix" else context
        return Row(text=context, inputs=context, outputs=0, said=said, extra_ids=0)


CAUSAL = Objective(name="causal", documents="attend")
"""What every run learned before there was a choice."""
