"""One process's part of a run: go on from the folder, step, save, evaluate, write down."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from msgspec import structs

from isoflop import stamp
from isoflop.count.parameters import parameters
from isoflop.count.text import law_flop_per_text_token
from isoflop.count.text import model_flop as model_flop_of
from isoflop.data.mixture import Read
from isoflop.data.sources import Sources
from isoflop.specs.origin import Ancestor
from isoflop.specs.parametrisation import scales
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Reading, Run
from isoflop.train import environment, optim, origin, record, soundness
from isoflop.train.counters import Counters
from isoflop.train.course import Course
from isoflop.train.divergence import Anchors, Rollback, Trouble, Watch
from isoflop.train.evaluation import Evaluation, evaluate
from isoflop.train.events import Event
from isoflop.train.journal import Journal
from isoflop.train.keeper import Keeper
from isoflop.train.learner import Learner, pick_device
from isoflop.train.predicted import here, sentence
from isoflop.train.repeats import repeated, shares
from isoflop.train.task import Batches, introduced
from isoflop.train.team import ALONE, Team

_PARTIAL = 8  # an evaluation before the final one predicts every eighth of its windows


class Session:
    """A run in hand.

    Attributes:
        folder: of the run.
        counters: where it stands.
        record: the `Run` as far as it is known before training.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        sources: Sources,
        folder: Path,
        key: str,
        on_event: Callable[[Event], None],
        peak_flop_per_s: float | None,
        sinks: Sequence[str] = (),
        ancestor: Ancestor | None = None,
        team: Team = ALONE,
    ) -> None:
        self._team = team
        self.recipe, self.sources, self.folder, self.key = recipe, sources, folder, key
        self._course = Course(recipe, sources)
        self._ancestor = ancestor
        self._begins = ancestor.begins if ancestor else 0
        self._skipped = ancestor.skipped_steps if ancestor else 0
        self._batches = Batches(recipe, sources, rank=team.data_rank, world=team.data_world, behind=self._skipped)
        self._last: Evaluation | None = None
        self._law_flop_per_token = law_flop_per_text_token(recipe)
        watch = Watch(vocabulary=recipe.model.vocabulary, steps=recipe.steps, rule=recipe.divergence)
        self.counters = Counters(watch=watch, step=self._begins)
        self.journal = Journal(
            recipe,
            folder=folder,
            counters=self.counters,
            on_event=on_event,
            flop_per_token=self._course.flop_per_token[0],
            peak_flop_per_s=peak_flop_per_s,
            key=key,
            sinks=sinks,
            silent=not team.leads,
        )
        self._anchors = Anchors.of(self.counters.watch)
        self._keeper = Keeper(folder, recipe=recipe, key=key, journal=self.journal, anchors=self._anchors, team=team)
        self.record = self._describe()

    def run(self, should_stop: Callable[[], bool]) -> Run | None:
        """Train to the end from wherever the folder stands; None where asked to stop, with everything saved."""
        if self._team.leads:
            record.write_recipe(self.folder, self.recipe)
        try:
            return self._run(should_stop)
        finally:
            self._keeper.close()

    def _run(self, asked: Callable[[], bool]) -> Run | None:
        def should_stop() -> bool:
            return self._team.any(asked())

        learner = self._team.learner(self.recipe, peak_learning_rate=float(self.record.learning_rate or 0.0))
        self.journal.watch(learner)
        self._resume(learner)
        self.counters.engine = learner.engine
        foreseen = here(
            self.recipe,
            engine=learner.engine,
            kind=learner.device.type,
            name=self.record.device or "",
            layout=self._team.layout,
        )
        if self._team.world > 1:
            self.record = structs.replace(self.record, device=f"{self._team.world} x {self.record.device}")
        self.record = structs.replace(self.record, predicted=foreseen)
        self.write(self.current())
        self._introduce(learner)
        if not self._sound(asked):
            return None
        due = evaluation_steps(self.recipe)
        if self._ancestor:
            due.add(self._begins)  # what was taken up is measured, and kept here where no one prunes it
        while True:
            self._keeper.poll()
            evaluation, trouble = None, None
            if self.counters.step in due:
                self._save(learner, durably=True)  # before evaluating, which may run out of memory
                evaluation = self._evaluate(learner, should_stop)
                if evaluation is None:
                    return None
                trouble = self._judged(evaluation)
            if trouble is None and self.counters.step == self.recipe.steps:
                assert evaluation is not None
                return self._finish(evaluation)
            if should_stop():
                self._save(learner, durably=True)
                return None
            if trouble is None:
                if self._keeper.due(self.counters.step):
                    self._save(learner)
                trouble = self._step(learner)
            if trouble is not None and not self._rolled_back(learner, trouble):
                self._keeper.wait()
                return self._diverged(trouble.reason)

    def write(self, run: Run) -> None:
        """Write down what the run is, where this process is the one that does."""
        if self._team.leads:
            record.write_run(self.folder, run)

    def current(self) -> Run:
        """The run so far."""
        before, own_steps = self._ancestor, self.counters.step - self._begins
        n_tokens, train_s = own_steps * self.recipe.batch_tokens, self.counters.train_s
        rate = n_tokens / train_s if train_s else None
        peak, wall_s = self.journal.gauges.peak(), self.journal.wall_s()
        spent_flop = self._law_flop_per_token * n_tokens
        # How much of what a foreign order of data showed is shown again, nobody has counted.
        known = before is None or before.fresh or self._skipped
        seen_tokens = n_tokens + (before.n_tokens if before else 0)
        read = self._batches.read(self.counters.step)
        # Batches behind it may have been passed over; no more was seen than was seen in all.
        unique_tokens = min(sum(one.unique_tokens for one in read.values()), seen_tokens)
        model_flop = model_flop_of(self.recipe, begins=self._begins, ends=self.counters.step)
        return structs.replace(
            self.record,
            architecture=self._course.models[self.counters.phase],
            n_tokens=seen_tokens,
            sources={name: self._reading(name, one) for name, one in read.items()} if len(read) > 1 else None,
            unique_tokens=unique_tokens if known else None,
            compute_flop=spent_flop + (before.compute_flop if before else 0.0),
            spent_flop=spent_flop if before else None,
            model_flop=model_flop,
            whole_model_flop=model_flop + before.model_flop if before and before.model_flop is not None else None,
            wall_s=wall_s,
            tokens_per_s=rate,
            mfu=self.journal.mfu(rate, flop_per_token=model_flop / n_tokens if n_tokens else None),
            engine=self.counters.engine,
            memory_bytes=peak.memory_bytes,
            tensors_bytes=peak.tensors_bytes,
            process_bytes=peak.process_bytes,
            time_shares=self.counters.spent.shares(wall_s),
            expert_load=self.journal.expert_load,
            note=self.counters.troubles(),
        )

    def _reading(self, source: str, read: Read) -> Reading:
        """Of one source, with what the last evaluation says of it where that was the final one."""
        final = self._last if self.counters.step == self.recipe.steps else None
        found = final.sources.get(source) if final else None
        return Reading(
            n_tokens=read.n_tokens,
            unique_tokens=read.unique_tokens,
            epochs=read.epochs,
            loss_nats=found.loss_nats if found else None,
            bits_per_byte=found.bits_per_byte if found else None,
        )

    def _describe(self) -> Run:
        recipe, counted = self.recipe, parameters(self.recipe.model)
        device = pick_device(recipe)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {recipe.threads} threads"
        return Run(
            id=self.folder.name,
            key=self.key,
            status="running",
            n_params=counted.total,
            n_tokens=0,
            counts="total",
            architecture=recipe.model,
            parameters=counted,
            tokenizer_sha256=self.sources.tokenizer_sha256,
            validation=self._course.validations[-1].name,
            learning_rate=optim.learning_rate(recipe, counted),
            batch_tokens=recipe.batch_tokens,
            steps=recipe.steps,
            seed=recipe.seed,
            device=name,
            role=recipe.role,
            origin=self._ancestor,
            stamp=stamp.make(
                {"shards": self.sources.content_sha256, "recipe": self.key}
                | ({"origin": self._ancestor.sha256} if self._ancestor else {})
            ),
        )

    def _introduce(self, learner: Learner) -> None:
        """Say where it begins, and by which rule what the recipe leaves open."""
        self.journal.say("started")
        if learner.engine.reasons:
            self.journal.say("note", text=f"computes in {learner.engine.said()}")
        if learner.device.type == "cpu" and (lacks := environment.missing()):
            self.journal.say("note", text=lacks)
        if self._team.layout is not None:
            self.journal.say("note", text=f"{self._team.world} processes, {self._team.layout.sharding}")
        if self.record.predicted is not None:
            self.journal.say("note", text=sentence(self.record.predicted))
        if (before := self._ancestor) and self.counters.step == self._begins:
            what = "all its state" if before.take == "state" else "its weights"
            self.journal.say("note", text=f"from run {before.run} at step {before.step}, {what}")
        if ruled := scales(self.recipe.parametrisation, self.recipe.model).describe():
            self.journal.say("note", text=ruled)
        if said := introduced(self.recipe):
            self.journal.say("note", text=said)
        if len(self.sources.shards) > 1:
            self.journal.say("note", text=f"reads {shares(self._course.alike[self.counters.phase].sources)}")
        for text in repeated(self._batches.read(self.recipe.steps)):
            self.journal.say("note", text=text)
        if self.recipe.optimizer.learning_rate is None:
            usual = self.recipe.optimizer.name != "muon" and self.recipe.schedule.name == "wsd"
            of = "" if usual else ", which is of AdamW with warmup-stable-decay: try others"
            rate = f"learning rate {self.record.learning_rate:.3g} by laws.hyperparameters' rule{of}"
            self.journal.say("note", text=rate)

    def _resume(self, learner: Learner) -> None:
        """Take up the newest whole checkpoint, if there is one, and cut the curve back to it."""
        with self.journal.gauges.aside():  # a file's tensors beside the model's are no training step's memory
            resumed = self._keeper.resume(learner)
            if resumed is not None:
                self.counters = resumed
            elif self._ancestor:
                self.counters = origin.begin(learner, self.recipe, self._ancestor, self.counters)
        if resumed is None:
            self.counters.first = self.counters.step
        self._stand(learner)
        self.journal.resume(self.counters)

    def _sound(self, should_stop: Callable[[], bool]) -> bool:
        """Whether the shards are what they were when written; False where it was asked to stop on the way."""
        say = lambda text: self.journal.say("note", text=text)  # noqa: E731
        look = lambda: soundness.sound(self.sources, folder=self.folder, say=say, should_stop=should_stop)  # noqa: E731
        return self._team.first(look)

    def _stand(self, learner: Learner) -> None:
        """The learner as the counters have it."""
        learner.stand(self._course.models[self.counters.phase])
        self.journal.flop_per_token = self._course.flop_per_token[self.counters.phase]

    def _enter(self, learner: Learner, number: int) -> None:
        """Go over into another phase, at its first batch."""
        at, models = self.counters, self._course.models
        if models[number] != models[at.phase]:
            learner.enter(models[number])
        said = f"from step {at.step} on: {self._course.change(at.phase, number)}"
        at.phase, at.engine = number, learner.engine
        self._stand(learner)
        self.journal.say("note", text=said)

    def _step(self, learner: Learner) -> Trouble | None:
        """One step; the trouble it has brought, if any."""
        at, began, refused = self.counters, time.perf_counter(), ""
        if (number := self._batches.phase(at.batch)) != at.phase:
            self._enter(learner, number)

        def accept(loss_nats: float, grad_norm: float) -> bool:
            nonlocal refused
            refused = at.watch.refusal(loss_nats=loss_nats, grad_norm=grad_norm)
            return not refused

        with self.journal.timing("data_s"):
            batch = self._batches.batch(at.batch)
        done = learner.step(at.step, batch, accept)
        at.engine = learner.engine
        at.train_s += time.perf_counter() - began
        for text in done.notes:
            self.journal.say("note", text=text)
        at.step += 1
        trouble = at.watch.trouble(at.step - 1, loss_nats=done.loss_nats, refused=refused)
        if refused:
            self.journal.say("note", text=f"step {at.step} left out: {refused}")
        elif trouble is None:
            rate = learner.learning_rate(at.step - 1)
            self.journal.stepped(loss_nats=done.loss_nats, grad_norm=done.grad_norm, learning_rate=rate)
        return trouble

    def _judged(self, found: Evaluation) -> Trouble | None:
        """What an evaluation says of the run."""
        self.counters.validation_loss_nats = found.loss_nats
        if math.isfinite(found.loss_nats):
            return None
        return Trouble(began=self.counters.step, reason=f"validation loss {found.loss_nats}: not finite")

    def _rolled_back(self, learner: Learner, trouble: Trouble) -> bool:
        """Go back to before the trouble; False where that has been done often enough."""
        at = self.counters
        if len(at.rollbacks) >= self.recipe.divergence.rollbacks:
            return False
        rollback = Rollback(at=at.step, to=self._anchors.before(trouble.began, first=at.first), reason=trouble.reason)
        self.journal.say("note", text=f"{rollback.reason}. Back to step {rollback.to}, and past these batches")
        with self.journal.gauges.aside():
            self.counters = self._keeper.roll_back(learner, rollback, at)
        self._stand(learner)
        self.journal.go_back(self.counters)
        self.write(self.current())
        return True

    def _evaluate(self, learner: Learner, should_stop: Callable[[], bool]) -> Evaluation | None:
        with self.journal.aside("evaluation_s"):
            found = evaluate(
                learner.judged,
                self._course.validations[self.counters.phase],
                every=1 if self.counters.step == self.recipe.steps else _PARTIAL,
                device=learner.device,
                precision=learner.evaluating,
                should_stop=should_stop,
                team=self._team,
            )
        if found is not None:
            self._last = found
            self.journal.evaluated(found)
        return found

    def _save(self, learner: Learner, *, durably: bool = False) -> None:
        """Begin to save, and stay until it is on the disk where it must be."""
        run = self.current()
        with self.journal.aside("checkpoint_s"):
            self._keeper.save(learner, self.counters, on_saved=lambda: self.write(run))
            if durably:
                self._keeper.wait()

    def _finish(self, final: Evaluation) -> Run:
        run = structs.replace(
            self.current(), status="finished", loss_nats=final.loss_nats, bits_per_byte=final.bits_per_byte
        )
        self.write(run)
        self.journal.say("done", loss_nats=final.loss_nats)
        return run

    def _diverged(self, reason: str) -> Run:
        before = f". Before: {self.counters.troubles()}" if self.counters.rollbacks else ""
        note = f"diverged at step {self.counters.step} of {self.recipe.steps}: {reason}{before}"
        run = structs.replace(self.current(), status="diverged", note=note)
        self.write(run)
        self.journal.say("note", text=note)
        return run


def evaluation_steps(recipe: Recipe) -> set[int]:
    """Steps to evaluate after: evenly spread, the last one among them."""
    count = min(recipe.evaluations, recipe.steps)
    return {round(recipe.steps * (i + 1) / count) for i in range(count)}
