"""Where a run stands, in plain numbers."""

from msgspec import Struct, field

from isoflop.specs.divergence import Divergence
from isoflop.specs.engine import Engine
from isoflop.train.divergence import Rollback, Watch, moved
from isoflop.train.seconds import Seconds


class Counters(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint keeps beside tensors: plain numbers.

    Attributes:
        step: optimizer steps done, those left out included.
        train_s: spent in steps alone.
        wall_s: spent in all, saving and evaluating included, over all resumes.
        loss_sum: of the steps since the last line of the curve.
        loss_steps: how many those are.
        line_s: `train_s` at that line.
        engine: what steps are computed with; None in checkpoints older than that.
        first: step that the run began at; not 0 where it took up another run's checkpoint.
        validation_loss_nats: of the last evaluation.
        rollbacks: how often the run went back, and where.
        passed: batches that rollbacks of its trunk passed over, where it took up another run's state.
        phase: of the recipe's, what the model was last trained as; `engine` belongs to it.
        spent: what the time went into, over all resumes.
        line_spent: the same at that line.
    """

    watch: Watch
    step: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    line_s: float = 0.0
    engine: Engine | None = None
    first: int = 0
    validation_loss_nats: float | None = None
    rollbacks: list[Rollback] = field(default_factory=list)
    passed: int = 0
    phase: int = 0
    spent: Seconds = field(default_factory=Seconds)
    line_spent: Seconds = field(default_factory=Seconds)

    @property
    def batch(self) -> int:
        """Number of the next batch: the step, and past those that a rollback passes over."""
        return self.step + self.passed + moved(self.rollbacks)

    def branch(self, *, steps: int, rule: Divergence) -> None:
        """Begin another run here, of so many steps in all, judged by `rule`.

        What decides the next step stays: step, place in the data, what the watch has seen. What tells how the run went
        begins anew, and so do its rollbacks, of which it has as many as its rule allows.
        """
        self.passed += moved(self.rollbacks)
        self.rollbacks, self.validation_loss_nats = [], None
        self.watch.steps, self.watch.rule, self.watch.n_left_out = steps, rule, 0
        self.train_s = self.wall_s = self.line_s = self.loss_sum = 0.0
        self.loss_steps = 0
        self.spent, self.line_spent = Seconds(), Seconds()

    def troubles(self) -> str:
        """What went wrong on the way, for the run's note; "" where nothing did."""
        said = [f"went back from step {each.at} to {each.to}: {each.reason}" for each in self.rollbacks]
        if self.watch.n_left_out:
            said.append(f"{self.watch.n_left_out} steps left out")
        return "; ".join(said)
