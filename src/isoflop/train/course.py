"""What a run computes in each of its phases; most runs have one."""

from isoflop.count.text import flop_per_text_token
from isoflop.data.sources import Sources
from isoflop.specs.architecture import Decoder
from isoflop.specs.recipe import Recipe
from isoflop.train.repeats import shares
from isoflop.train.task import Validation


class Course:
    """Phase by phase.

    Attributes:
        alike: each as a recipe of its own.
        models: each one's, with its context.
        validations: at each one's context.
        flop_per_token: of training, attention included.
    """

    def __init__(self, recipe: Recipe, sources: Sources) -> None:
        self._phases = recipe.phases
        self.alike = [recipe.within(phase) for phase in self._phases]
        self.models = [one.model for one in self.alike]
        self.validations = [Validation(one, sources) for one in self.alike]
        self.flop_per_token = [flop_per_text_token(one) for one in self.alike]

    def change(self, before: int, now: int) -> str:
        """What is other in one phase than in another, in words."""
        said = []
        if self._phases[before].parts != self._phases[now].parts:
            said.append(f"reads {shares(self.alike[now].sources)}")
        old, new = self.models[before], self.models[now]
        if old.context != new.context:
            said.append(f"sequences of {new.context} tokens, {self.alike[now].sequences} a batch")
        if isinstance(old, Decoder) and isinstance(new, Decoder):
            if old.rope_theta != new.rope_theta:
                said.append(f"rope_theta {new.rope_theta:g}")
            if new.rope_scaling is not None and old.rope_scaling != new.rope_scaling:
                said.append(f"rotary positions stretched {new.rope_scaling.factor:g} times")
        return ", ".join(said)
