"""Which optimizer moves the weights, and how far."""

from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.errors import UsageError

TrainedBy: TypeAlias = Literal["adamw", "adamw-8bit", "muon"]
DecayOn: TypeAlias = Literal["matrices", "matrices-and-embeddings", "all"]
MuonScale: TypeAlias = Literal["adamw-rms", "spectral"]
ADDED: dict[str, object] = {
    "name": "adamw", "decay_on": "matrices", "muon_learning_rate": None, "muon_momentum": None, "muon_scale": None,
}  # fmt: skip
"""Fields younger than runs that exist: at these values a run keeps the key that it had without them."""


class Optimizer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """AdamW, or Muon for the matrices of the blocks with AdamW for the rest; weight decay is decoupled in both.

    Attributes:
        learning_rate: peak; None takes the stated rule (`isoflop.laws.hyperparameters`).
        beta2: None takes clip(0.999 ** (sequences per batch / 32), 0.95, 0.999).
        z_loss: weight of the squared log-partition of the logits; 0 leaves it out.
        name: "adamw", "adamw-8bit" (its moments in 8 bits, through torchao) or "muon", as `isoflop count memory
            --optimizer` calls them.
        decay_on: what decays: "matrices" of the blocks, an untied head and an encoder's transform before its head;
            embeddings too, those of positions, segments and relative distances among them; or norms and biases as well.
        muon_learning_rate: peak of the matrices that Muon moves; None takes `learning_rate`, which "adamw-rms" is for.
        muon_momentum: Nesterov's; None takes 0.95.
        muon_scale: of an orthogonal update of a matrix (rows, columns): "adamw-rms", 0.2 sqrt(max(rows, columns)),
            moves each entry as far as AdamW does (Liu et al. 2025, arXiv:2502.16982, eq. 4); "spectral",
            sqrt(max(1, rows / columns)), moves outputs equally far whatever the shape (Jordan 2024,
            kellerjordan.github.io/posts/muon). None takes "adamw-rms".
    """

    learning_rate: float | None = None
    beta1: float = 0.9
    beta2: float | None = None
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    z_loss: float = 1e-5
    name: TrainedBy = "adamw"
    decay_on: DecayOn = "matrices"
    muon_learning_rate: float | None = None
    muon_momentum: float | None = None
    muon_scale: MuonScale | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon", "clip_norm", "muon_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"recipe: optimizer.{name} is {value}; it must be positive and finite")
        for name in ("beta1", "beta2", "muon_momentum"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"recipe: optimizer.{name} is {value}; it must be at least 0 and below 1")
        for name in ("weight_decay", "z_loss"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"recipe: optimizer.{name} is {getattr(self, name)}; it must be 0 or more and finite")
        self._check_muon()

    def _check_muon(self) -> None:
        """What is said of Muon is not passed over where AdamW trains; its spectral rates are none that AdamW knows."""
        said = [
            name for name in ("muon_learning_rate", "muon_momentum", "muon_scale") if getattr(self, name) is not None
        ]
        if said and self.name != "muon":
            raise UsageError(
                f'recipe: optimizer.{said[0]} is set, but optimizer.name is "{self.name}"; set it to "muon", or leave '
                f"{said[0]} out"
            )
        if self.muon_scale == "spectral" and self.muon_learning_rate is None:
            raise UsageError(
                'recipe: optimizer.muon_scale "spectral" needs a muon_learning_rate of its own, for example 0.02: '
                "learning_rate is AdamW's, and far too small for it"
            )
