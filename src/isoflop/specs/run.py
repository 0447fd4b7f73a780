"""The currency: one training run, ours or published."""

from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.specs.architecture import Counts, Model, ParameterCount
from isoflop.specs.engine import Engine
from isoflop.specs.origin import Ancestor
from isoflop.specs.role import Role
from isoflop.stamp import Stamp

Status: TypeAlias = Literal["running", "finished", "interrupted", "diverged", "failed"]


class Predicted(Struct, frozen=True, kw_only=True):
    """What counting and planning expect of a run before its first step; None where they have no ground.

    Attributes:
        memory_bytes: peak of one device, the allocator's margin included.
        tokens_per_s: of training steps alone, on all devices.
        wall_s: of all training steps together.
        without: a sentence for each thing that is not predicted, why, and what would give it a ground.
    """

    memory_bytes: float | None = None
    memory_bytes_lo: float | None = None
    memory_bytes_hi: float | None = None
    tokens_per_s: float | None = None
    tokens_per_s_lo: float | None = None
    tokens_per_s_hi: float | None = None
    wall_s: float | None = None
    without: tuple[str, ...] = ()


class Reading(Struct, frozen=True, kw_only=True):
    """What a run has had of one source of its mixture.

    Attributes:
        n_tokens: read in training, repeats included; of the run, or of the order of data that it goes on in.
        unique_tokens: different ones among them; as many as are to be expected where the context has changed.
        epochs: times that its tokens were read, on average.
        loss_nats: per token at the end, on its own part of the validation text.
        bits_per_byte: the same per byte of text.
    """

    n_tokens: float
    unique_tokens: float
    epochs: float
    loss_nats: float | None = None
    bits_per_byte: float | None = None


class Run(Struct, frozen=True, kw_only=True):
    """One training run; a published run fills what its table knows.

    Attributes:
        id: folder name of our runs, row name of published ones.
        key: `Recipe.key` of our runs.
        n_params: parameters as `counts` says.
        n_tokens: tokens of text seen in training, whatever the objective made of them, those before its origin among
            them.
        unique_tokens: different tokens among them; less than `n_tokens` where data was repeated.
        compute_flop: 6 * n_params * n_tokens, the work by the laws' convention; of an encoder-decoder, whose tokens
            pass one of its stacks only, the work of its products.
        spent_flop: the part of it since the origin; None where that is all.
        model_flop: work by `count.flops` since the origin, attention included as the full square, the head on what is
            said alone.
        whole_model_flop: that with the same work before the origin; None where it is all, or is not known.
        loss_nats: validation loss per token at the end, on `validation`; None until finished.
        bits_per_byte: the same loss per byte of text; None where what is said is no text in its order.
        validation: what the loss was measured on, e.g. "validation:262144@<sha256 of the split>", with what is said of
            it in front where that is not every next token, "prefix of ...": only losses of equal names may be compared.
            Of a mixture it names a part for each source, joined by "+", and the loss is the mean over all of them.
        sources: of a mixture, what it has had of each; None where there is one source.
        tokenizer_sha256: the vocabulary a loss per token depends on.
        engine: what its steps are computed with; None for runs older than that, and published ones.
        wall_s: seconds in all, over every resume, evaluations and checkpoints included.
        tokens_per_s: of training steps alone.
        mfu: model FLOP of training steps over their seconds and the peak, as measured (CPU) or from the device's row.
        memory_bytes: at most, of what its training steps added to the process; see `train.gauges`.
        tensors_bytes: at most, of its tensors alone, on a GPU.
        process_bytes: at most, resident, of the process as a whole.
        time_shares: of `wall_s`, by what it went into: the phases of a step, evaluations, checkpoints.
        expert_load: of a mixture, the busiest expert's share of choices over the mean; 1 where all are used alike.
        predicted: before the first step.
        role: "fit" for runs a law may see; others see `specs.role`.
        note: why it diverged or failed, what to know about it.
        origin: the checkpoint it began from; None for a run that began anew.
    """

    id: str
    n_params: float
    n_tokens: float
    status: Status = "finished"
    counts: Counts = "unknown"
    key: str | None = None
    architecture: Model | None = None
    parameters: ParameterCount | None = None
    unique_tokens: float | None = None
    compute_flop: float | None = None
    model_flop: float | None = None
    whole_model_flop: float | None = None
    loss_nats: float | None = None
    bits_per_byte: float | None = None
    validation: str | None = None
    sources: dict[str, Reading] | None = None
    tokenizer_sha256: str | None = None
    learning_rate: float | None = None
    batch_tokens: int | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None
    engine: Engine | None = None
    wall_s: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    memory_bytes: float | None = None
    tensors_bytes: float | None = None
    process_bytes: float | None = None
    time_shares: dict[str, float] | None = None
    expert_load: float | None = None
    predicted: Predicted | None = None
    role: Role = "fit"
    note: str = ""
    spent_flop: float | None = None
    origin: Ancestor | None = None
    stamp: Stamp | None = None
    schema: Literal["isoflop/run@1"] = "isoflop/run@1"

    @property
    def flop(self) -> float:
        """The work by the laws' convention, 6 N D where the table gives none."""
        return self.compute_flop if self.compute_flop is not None else 6.0 * self.n_params * self.n_tokens
