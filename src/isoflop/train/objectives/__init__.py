"""What is learned, a file an objective: how text becomes a batch, and the loss of a part of one. The loop knows none.

A file's name is its registration. It has `SAYS_TEXT`, `batch` and `loss`, as `Objective` describes them; what an
objective can be told and which models learn it stands in `specs.objective`.
"""

from typing import Protocol, cast

from msgspec import Struct
from torch import Tensor, nn

from isoflop import registry
from isoflop.data.batch import Batch
from isoflop.data.corrupt import Ids, Place
from isoflop.specs import objective as specs
from isoflop.specs.recipe import Recipe
from isoflop.train.head_loss import HeadLoss


class Terms(Struct, frozen=True, kw_only=True):
    """What text becomes a batch by.

    Attributes:
        objective: settled.
        family: of the model.
        vocabulary: ids of the model.
        text_vocabulary: ids of the text, of which the last is the end of text.
    """

    objective: specs.Objective
    family: specs.Family
    vocabulary: int
    text_vocabulary: int

    @property
    def end(self) -> int:
        """Id of the end of text."""
        return self.text_vocabulary - 1


class Part(Struct, frozen=True, kw_only=True):
    """A part of a batch where its model lives; as `data.batch.Batch`, B for its sequences."""

    inputs_BT: Tensor
    targets_BU: Tensor
    outputs_BU: Tensor | None = None
    prefix_B: Tensor | None = None
    documents_BT: Tensor | None = None
    read_per_said: float = 1.0


class Objective(Protocol):
    """What a file of this package has.

    Attributes:
        SAYS_TEXT: every token said is text, said in its order and from what stands before it, so that bits per byte
            mean something.
    """

    SAYS_TEXT: bool

    def batch(self, text_ST: Ids, next_ST: Ids, place: Place, terms: Terms) -> Batch:
        """A batch from text and the same one token on, a pure function of both and of the place."""

    def loss(self, model: nn.Module, part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
        """What to minimise, a mean over what is said, and of it the cross-entropy alone, in nats and detached.

        Weighted by what they say, the losses of a batch's parts add up to that of the whole.
        """


def load(name: str) -> Objective:
    """The objective called so.

    Raises:
        UnknownNameError: there is none.
    """
    return cast(Objective, registry.load("objective", name, __name__))


def terms(recipe: Recipe, *, text_vocabulary: int) -> Terms:
    """Of a recipe on text of so many ids."""
    return Terms(
        objective=recipe.learned,
        family=recipe.family,
        vocabulary=recipe.model.vocabulary,
        text_vocabulary=text_vocabulary,
    )
