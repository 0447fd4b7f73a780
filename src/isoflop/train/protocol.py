"""What a sweep and its workers say to each other: one JSON object a line, requests on stdin, messages on stdout.

parent -> worker   Train | Matmul | Copy | Rehearse | Steps | Gather               closing stdin means: save and end
worker -> parent   Ready, then Taken, Told..., Ended | Measured   closing stdout means: the worker is gone
"""

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train.events import Event
from isoflop.train.meter import Accelerator, Precision


class Train(Struct, frozen=True, kw_only=True, tag="train", tag_field="do"):
    """Train (or go on training) a recipe in a folder."""

    folder: str
    recipe: Recipe
    peak_flop_per_s: float | None = None


class Matmul(Struct, frozen=True, kw_only=True, tag="matmul", tag_field="do"):
    """Measure the matmul rate of this worker."""

    threads: int
    precision: Precision
    seconds: float
    device: str = "cpu"


class Copy(Struct, frozen=True, kw_only=True, tag="copy", tag_field="do"):
    """Measure the copy bandwidth of this worker."""

    threads: int
    seconds: float
    device: str = "cpu"


class Rehearse(Struct, frozen=True, kw_only=True, tag="rehearse", tag_field="do"):
    """Train a recipe for some seconds in a folder to be thrown away, and say how fast it went."""

    recipe: Recipe
    seconds: float


class Steps(Struct, frozen=True, kw_only=True, tag="steps", tag_field="do"):
    """Take training steps of a recipe on random tokens, without data and without a folder."""

    recipe: Recipe
    seconds: float


class Gather(Struct, frozen=True, kw_only=True, tag="gather", tag_field="do"):
    """Gather arrays from all workers of a crew, each of whom is asked the same.

    Attributes:
        meeting: path of a file that does not exist yet, in which they find each other.
    """

    meeting: str
    ranks: int
    seconds: float


Request: TypeAlias = Train | Matmul | Copy | Rehearse | Steps | Gather


class Ready(Struct, frozen=True, kw_only=True, tag="ready", tag_field="is"):
    """Torch is imported; requests are read from now on."""

    torch: str
    cuda: str | None
    accelerators: list[Accelerator]

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where it trains."""
        return "cuda" if self.accelerators else "cpu"


class Taken(Struct, frozen=True, kw_only=True, tag="taken", tag_field="is"):
    """A run is in hand from here on: what ends the worker may be the run's doing, which before it cannot be."""


class Told(Struct, frozen=True, kw_only=True, tag="told", tag_field="is"):
    """What the trainer says of the run in hand."""

    event: Event


class Ended(Struct, frozen=True, kw_only=True, tag="ended", tag_field="is"):
    """The run in hand is over, one way or the other.

    Attributes:
        run: as the trainer left it; None where it failed before there was one.
        status: "finished", "diverged", "interrupted" (saved, goes on later) or "failed".
        reason: one sentence where it did not finish.
        disk: it failed because the disk takes nothing more, as the next one would.
    """

    status: Literal["finished", "diverged", "interrupted", "failed"]
    run: Run | None = None
    reason: str = ""
    disk: bool = False


class Measured(Struct, frozen=True, kw_only=True, tag="measured", tag_field="is"):
    """Answer to `Matmul` (FLOP/s), `Copy`, `Gather` (bytes/s), `Rehearse` or `Steps` (tokens/s)."""

    value: float


Message: TypeAlias = Ready | Taken | Told | Ended | Measured

encode = msgspec.json.Encoder().encode
requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
