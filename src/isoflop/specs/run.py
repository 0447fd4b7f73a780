"""The currency: one training run, ours or published."""

from typing import Literal, TypeAlias

from msgspec import Struct

from isoflop.specs.architecture import Counts, Decoder, ParameterCount
from isoflop.stamp import Stamp

Status: TypeAlias = Literal["running", "finished", "interrupted", "diverged", "failed"]


class Run(Struct, frozen=True, kw_only=True):
    """One training run; a published run fills what its table knows.

    Attributes:
        id: folder name of our runs, row name of published ones.
        key: `Recipe.key` of our runs.
        n_params: parameters as `counts` says.
        n_tokens: tokens of text seen in training, whatever the objective made of them.
        unique_tokens: different tokens among them; less than `n_tokens` where data was repeated.
        compute_flop: 6 * n_params * n_tokens, the work by the laws' convention; of an encoder-decoder, whose tokens
            pass one of its stacks only, the work of its products.
        model_flop: work by `count.flops`, attention included as the full square, the head on what is said alone.
        loss_nats: validation loss per token at the end, on `validation`; None until finished.
        bits_per_byte: the same loss per byte of text; None where what is said is no text in its order.
        validation: what the loss was measured on, e.g. "validation:262144@<sha256 of the split>", with what is said of
            it in front where that is not every next token, "prefix of ...": only losses of equal names may be compared.
        tokenizer_sha256: the vocabulary a loss per token depends on.
        wall_s: seconds in all, over every resume, evaluations and checkpoints included.
        tokens_per_s: of training steps alone.
        mfu: model FLOP of training steps over their seconds and the peak, as measured (CPU) or from the device's row.
        role: "fit" for runs a law may see, "held_out" for its proof.
        note: why it diverged or failed, what to know about it.
    """

    id: str
    n_params: float
    n_tokens: float
    status: Status = "finished"
    counts: Counts = "unknown"
    key: str | None = None
    architecture: Decoder | None = None
    parameters: ParameterCount | None = None
    unique_tokens: float | None = None
    compute_flop: float | None = None
    model_flop: float | None = None
    loss_nats: float | None = None
    bits_per_byte: float | None = None
    validation: str | None = None
    tokenizer_sha256: str | None = None
    learning_rate: float | None = None
    batch_tokens: int | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None
    wall_s: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    role: Literal["fit", "held_out"] = "fit"
    note: str = ""
    stamp: Stamp | None = None
    schema: Literal["isoflop/run@1"] = "isoflop/run@1"

    @property
    def flop(self) -> float:
        """The work by the laws' convention, 6 N D where the table gives none."""
        return self.compute_flop if self.compute_flop is not None else 6.0 * self.n_params * self.n_tokens
