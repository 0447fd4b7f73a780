"""One process's part of a run: go on from the folder, step, save, evaluate, write down."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from msgspec import structs

from isoflop import stamp
from isoflop.count.parameters import parameters
from isoflop.count.text import flop_per_text_token, law_flop_per_text_token
from isoflop.data.shards import Shards
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import optim, record
from isoflop.train.counters import Counters
from isoflop.train.divergence import Watch
from isoflop.train.evaluation import Evaluation, evaluate
from isoflop.train.events import Event
from isoflop.train.journal import Journal
from isoflop.train.keeper import Keeper
from isoflop.train.learner import Learner, pick_device
from isoflop.train.task import Batches, Validation, introduced

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
        shards: Shards,
        folder: Path,
        key: str,
        on_event: Callable[[Event], None],
        peak_flop_per_s: float | None,
    ) -> None:
        self.recipe, self.shards, self.folder, self.key = recipe, shards, folder, key
        self._batches = Batches(recipe, shards)
        self._validation = Validation(recipe, shards)
        self._flop_per_token = flop_per_text_token(recipe)
        self._law_flop_per_token = law_flop_per_text_token(recipe)
        self.counters = Counters(watch=Watch(vocabulary=recipe.model.vocabulary, steps=recipe.steps))
        self.journal = Journal(
            recipe,
            folder=folder,
            counters=self.counters,
            on_event=on_event,
            flop_per_token=self._flop_per_token,
            peak_flop_per_s=peak_flop_per_s,
        )
        self._keeper = Keeper(folder, key=key, journal=self.journal)
        self.record = self._describe()

    def run(self, should_stop: Callable[[], bool]) -> Run | None:
        """Train to the end from wherever the folder stands; None where asked to stop, with everything saved."""
        record.write_recipe(self.folder, self.recipe)
        learner = Learner(self.recipe, peak_learning_rate=float(self.record.learning_rate or 0.0))
        self._resume(learner)
        record.write_run(self.folder, self.current())
        self._introduce()
        due = evaluation_steps(self.recipe)
        while True:
            step = self.counters.step
            evaluation = None
            if step in due:
                self._save(learner)  # before evaluating, which may run out of memory
                evaluation = self._evaluate(learner, should_stop)
                if evaluation is None:
                    return None
            if step == self.recipe.steps:
                assert evaluation is not None
                return self._finish(evaluation)
            if should_stop():
                self._save(learner)
                return None
            if reason := self._step(learner):
                return self._diverged(reason)
            if self._keeper.due():
                self._save(learner)

    def current(self) -> Run:
        """The run so far."""
        n_tokens, train_s = self.journal.n_tokens(), self.counters.train_s
        rate = n_tokens / train_s if train_s else None
        return structs.replace(
            self.record,
            n_tokens=n_tokens,
            unique_tokens=self._batches.unique_tokens(self.counters.step),
            compute_flop=self._law_flop_per_token * n_tokens,
            model_flop=self._flop_per_token * n_tokens,
            wall_s=self.journal.wall_s(),
            tokens_per_s=rate,
            mfu=self.journal.mfu(rate),
        )

    def _describe(self) -> Run:
        recipe, counted = self.recipe, parameters(self.recipe.model)
        device = pick_device(recipe)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {recipe.threads} threads"
        header = self.shards.header
        return Run(
            id=self.folder.name,
            key=self.key,
            status="running",
            n_params=counted.total,
            n_tokens=0,
            counts="total",
            architecture=recipe.model,
            parameters=counted,
            tokenizer_sha256=header.tokenizer_sha256,
            validation=self._validation.name,
            learning_rate=optim.learning_rate(recipe, n_params=counted.total),
            batch_tokens=recipe.batch_tokens,
            steps=recipe.steps,
            seed=recipe.seed,
            device=name,
            role=recipe.role,
            stamp=stamp.make({"shards": self.shards.content_sha256, "recipe": self.key}),
        )

    def _introduce(self) -> None:
        """Say where it begins, and by which rule what the recipe leaves open."""
        self.journal.say("started")
        if said := introduced(self.recipe):
            self.journal.say("note", text=said)
        if self.recipe.optimizer.learning_rate is None:
            usual = self.recipe.optimizer.name == "adamw" and self.recipe.schedule.name == "wsd"
            of = "" if usual else ", which is of AdamW with warmup-stable-decay: try others"
            rate = f"learning rate {self.record.learning_rate:.3g} by laws.hyperparameters' rule{of}"
            self.journal.say("note", text=rate)

    def _resume(self, learner: Learner) -> None:
        """Take up the newest whole checkpoint, if there is one, and cut the curve back to it."""
        self.counters = self._keeper.resume(learner) or self.counters
        self.journal.resume(self.counters)

    def _step(self, learner: Learner) -> str:
        """One step; returns why the run has diverged, or ""."""
        at, began = self.counters, time.perf_counter()
        loss_nats, grad_norm = learner.step(at.step, self._batches.batch(at.step))
        at.train_s += time.perf_counter() - began
        at.step += 1
        if reason := at.watch.verdict(loss_nats=loss_nats, grad_norm=grad_norm):
            return reason
        rate = learner.learning_rate(at.step - 1)
        self.journal.stepped(loss_nats=loss_nats, grad_norm=grad_norm, learning_rate=rate)
        return ""

    def _evaluate(self, learner: Learner, should_stop: Callable[[], bool]) -> Evaluation | None:
        found = evaluate(
            learner.model,
            self._validation,
            every=1 if self.counters.step == self.recipe.steps else _PARTIAL,
            device=learner.device,
            precision=learner.precision,
            should_stop=should_stop,
        )
        if found is not None:
            self.journal.evaluated(found)
        return found

    def _save(self, learner: Learner) -> None:
        if self._keeper.save(learner, self.counters):
            record.write_run(self.folder, self.current())

    def _finish(self, final: Evaluation) -> Run:
        run = structs.replace(
            self.current(), status="finished", loss_nats=final.loss_nats, bits_per_byte=final.bits_per_byte
        )
        record.write_run(self.folder, run)
        self.journal.say("done", loss_nats=final.loss_nats)
        return run

    def _diverged(self, reason: str) -> Run:
        note = f"diverged at step {self.counters.step} of {self.recipe.steps}: {reason}"
        run = structs.replace(self.current(), status="diverged", note=note)
        record.write_run(self.folder, run)
        self.journal.say("note", text=note)
        return run


def evaluation_steps(recipe: Recipe) -> set[int]:
    """Steps to evaluate after: evenly spread, the last one among them."""
    count = min(recipe.evaluations, recipe.steps)
    return {round(recipe.steps * (i + 1) / count) for i in range(count)}
