"""What a recipe learns and from which tokens: its batches, the loss of a part of one, and what it is judged by."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from isoflop.data.batch import Batch
from isoflop.data.corrupt import NOTHING, Ids, Place
from isoflop.data.loader import Windows
from isoflop.data.mixture import Read
from isoflop.data.sources import Sources
from isoflop.errors import UsageError
from isoflop.specs.objective import CAUSAL
from isoflop.specs.recipe import Recipe
from isoflop.train import objectives
from isoflop.train.head_loss import HeadLoss
from isoflop.train.objectives import Objective, Part


class Batches:
    """The recipe's batches as a pure function of their number; ranks take shares whose union is the batch of one.

    Args:
        behind: batches of the same order that other runs have had before number 0.
    """

    def __init__(self, recipe: Recipe, sources: Sources, *, rank: int = 0, world: int = 1, behind: int = 0) -> None:
        self._names = list(sources.shards)
        self._mixture = sources.mixture(recipe, rank=rank, world=world, behind=behind)
        self._seed, self._behind = recipe.seed, behind
        self._objective = objectives.load(str(recipe.learned.name))
        self._terms = objectives.terms(recipe, text_vocabulary=sources.vocabulary)

    def batch(self, number: int) -> Batch:
        """Of a number counted from 0."""
        text_ST, next_ST = self._mixture.batch(number)
        place = Place(seed=self._seed, step=number + self._behind, first_row=self._mixture.first(number))
        return self._objective.batch(text_ST, next_ST, place, self._terms)

    def phase(self, number: int) -> int:
        """Which of the recipe's phases a batch belongs to."""
        return self._mixture.span(number)

    def read(self, batches: int) -> dict[str, Read]:
        """What has been read of each source after so many batches, those behind included."""
        return dict(zip(self._names, self._mixture.read(batches), strict=True))


class Validation:
    """The text that a recipe's model is judged by, corrupted alike in every run that learns the same.

    Of several sources each has the same share of it, so that mixtures of them are judged by one text.

    Args:
        recipe: without stages, or one of its phases.

    Attributes:
        name: equal for losses that may be compared: on equal text, of equal objectives.
        text: tokens of one window.
        sources: names of the texts it is made of.
    """

    def __init__(self, recipe: Recipe, sources: Sources) -> None:
        self.text = recipe.row.text
        self._token_bytes = sources.tokenizer.token_bytes
        self.sources = list(sources.shards)
        self._windows = {
            name: Windows(
                tokens,
                context=self.text,
                limit_tokens=recipe.validation_tokens // len(self.sources),
                token_bytes=self._token_bytes,
                of=called,
            )
            for name, tokens, called in zip(self.sources, sources.tokens("validation"), sources.called(), strict=True)
        }
        self._objective = objectives.load(str(recipe.learned.name))
        self._terms = objectives.terms(recipe, text_vocabulary=sources.vocabulary)
        parts = [
            f"{self._windows[name].n_tokens}@{shards.header.splits['validation'].sha256}"
            for name, shards in sources.shards.items()
        ]
        of = f"validation:{'+'.join(parts)}"
        self.name = of if recipe.learned == CAUSAL else f"{described(recipe)} of {of}"

    def batches(self, source: str, rows: int, *, every: int) -> Iterator[Batch]:
        """One of a source's windows in `every`, at most `rows` at a time.

        Windows are thinned evenly and not cut off, because the first of a split may be one long unusual document. How
        a window is corrupted hangs on its number alone.
        """
        first_row = 0
        for text_ST, next_ST in self._windows[source].batches(rows * every):
            place = Place(seed=0, step=0, first_row=first_row)
            first_row += len(text_ST)
            yield self._objective.batch(text_ST, next_ST, place, self._terms).rows(slice(None, None, every))

    def nats(self, model: nn.Module, batch: Batch, device: torch.device) -> float:
        """Mean over what is said."""
        return _said(self._objective, model, _there(batch, device), HeadLoss())[1].item()

    def bytes_said(self, batch: Batch) -> int | None:
        """Bytes of text in what is said; None where bits per byte mean nothing."""
        if not self._objective.SAYS_TEXT:
            return None
        return int(self._token_bytes[batch.targets_SU[batch.targets_SU != NOTHING]].sum())


def described(recipe: Recipe) -> str:
    """What is learned, and what is unusual of it, as a validation's name has it: "masked(rate=0.3)"."""
    unusual = recipe.learned.unusual.items()
    inside = [f"{name}={value if isinstance(value, str) else float(value)}" for name, value in unusual]
    if recipe.learned.name == "prefix" and recipe.row.outputs:
        inside = ["halves"]  # another question than a decoder's, whose prefixes are of any length
    return f"{recipe.learned.name}({', '.join(inside)})" if inside else str(recipe.learned.name)


def introduced(recipe: Recipe) -> str:
    """What to say of what is learned; nothing of what every decoder learned before there was a choice."""
    learned, row = recipe.learned, recipe.row
    if learned == CAUSAL:
        return ""
    article = "a" if recipe.family == "decoder" else "an"
    rule = "" if recipe.objective.name else f" as is usual for {article} {recipe.family}"
    sizes = f"{row.inputs} tokens read" + (f", {row.outputs} written" if row.outputs else "")
    foreign = recipe.optimizer.learning_rate is None and learned.name != "causal"
    rate = ". The rule for learning rates is of decoders that say every token: try others" if foreign else ""
    return f"objective {described(recipe)}{rule}: {row.text} tokens of text make {sizes}, {row.said:g} said{rate}"


def loss(recipe: Recipe, model: nn.Module, part: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """What to minimise on a part of a batch, its mean over what is said, and the cross-entropy alone, in nats."""
    head = HeadLoss(z_loss=recipe.optimizer.z_loss, loss_head=recipe.loss_head)
    return _said(objectives.load(str(recipe.learned.name)), model, _there(part, device), head)


class Through(nn.Module):
    """A model behind a door: what holds its shards together sees all that is done with it, its head included."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Callable[..., tuple[Tensor, Tensor]], part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
        """The loss of a part."""
        return loss(self.model, part, head)


def _said(objective: Objective, model: nn.Module, part: Part, head: HeadLoss) -> tuple[Tensor, Tensor]:
    """The loss of a part, through the door where there is one, whatever is wrapped around it."""
    if isinstance(getattr(model, "module", model), Through):
        found: tuple[Tensor, Tensor] = model(objective.loss, part, head)
        return found
    return objective.loss(model, part, head)


def check(recipe: Recipe, sources: Sources) -> None:
    """Hold the model's vocabulary against the text's and what the objective needs besides.

    Raises:
        UsageError: it is too small.
    """
    if lack := recipe.lacking_ids(sources.vocabulary):
        raise UsageError(f"recipe: {lack}")


def _there(batch: Batch, device: torch.device) -> Part:
    """A batch where the model lives."""

    def moved(ids: Ids) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(ids)).to(device)

    return Part(
        inputs_BT=moved(batch.inputs_ST),
        targets_BU=moved(batch.targets_SU),
        outputs_BU=None if batch.outputs_SU is None else moved(batch.outputs_SU),
        prefix_B=None if batch.prefix_S is None else moved(batch.prefix_S),
        documents_BT=None if batch.documents_ST is None else moved(batch.documents_ST),
        read_per_said=batch.read_per_said,
    )
