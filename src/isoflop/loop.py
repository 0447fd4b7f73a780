"""The closed loop on one machine: text, tokens, ladder, law, forecast, proof, plan, page.

`isoflop ladder` climbs trunks and branches as far as the proof and its page, `isoflop demo` a small isoFLOP grid to
the plan. Every stage leaves its file in the folder, so a loop stopped anywhere goes on from there, and every file can
be taken up by the command of its room.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypedDict

from msgspec import Struct

from isoflop import stamp, units
from isoflop.data import corpus
from isoflop.data.shards import Shards
from isoflop.data.tokenization import tokenize
from isoflop.errors import UsageError
from isoflop.files import write_json
from isoflop.laws.fitted import Fit
from isoflop.laws.profiles import Approach2
from isoflop.laws.rates import RateLine
from isoflop.laws.source import load
from isoflop.plan.answer import answer
from isoflop.plan.diff import SCHEMA
from isoflop.plan.ladder import Ladder, rungs
from isoflop.plan.ladder_designed import designed
from isoflop.plan.ladder_recipes import Ground, limbs, proof, usual_rate
from isoflop.plan.payload import payload
from isoflop.plan.question import ask
from isoflop.plan.trunks import Layout, laid, middle, of_budget
from isoflop.report import ladder_story, story
from isoflop.report.content import Plan as Column
from isoflop.report.content import Stage
from isoflop.report.page import write
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.specs.plan import Budget, Plan
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import ladder as climbing
from isoflop.train import ladder_trunks as ascent
from isoflop.train.ladder_trunks import Ascent, Resume, Where
from isoflop.train.sweep import SweepEvent
from isoflop.train.team import alone

# Measured on two cores (LOG.md): 7 and 2 minutes in all, 11 and 3 where other work takes half of the machine.
FULL = Ladder(cheapest_flop=1.55e11)
FAST = Ladder(cheapest_flop=3e10, ratio=2.0, sizes=4, step=1.6, layers=2, tokens_per_param=8.0)
VALIDATION_FRACTION = 0.08
PUBLISHED = "besiroglu-2024"
QUESTION = "8xH100 for 7 days"
LADDER = "ladder"
HERE = Where()


class Listener(Struct, frozen=True, kw_only=True):
    """Who is told what happens.

    Attributes:
        say: one line for people.
        progress: a bar over a sweep of this title.
    """

    say: Callable[[str], None]
    progress: Callable[[str], AbstractContextManager[Callable[[SweepEvent], None]]]


class Clock:
    """How long each stage took, in order."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str, note: str = "") -> Iterator[None]:
        """Time what happens inside."""
        begin = time.perf_counter()
        yield
        self.stages.append(Stage(name=name, wall_s=time.perf_counter() - begin, note=note))


class Grounds(Struct, frozen=True, kw_only=True):
    """What a ladder stands on: its tokens, the machine, the recipes of its rungs."""

    shards: Shards
    setup: climbing.Setup
    recipes: list[Recipe]


def grounds(folder: Path, *, text: Path | None, plan: Ladder, clock: Clock, listener: Listener) -> Grounds:
    """Text to tokens, the machine measured, the rungs laid out."""
    shards = tokens(folder, text=text, vocabulary=plan.vocabulary, clock=clock, listener=listener)
    trial = rungs(plan, shards=str(shards.folder), threads=1, proof_threads=1)
    setup = measured(folder, trial[len(trial) // 2], trial[-1], clock=clock, listener=listener)
    recipes = rungs(plan, shards=str(shards.folder), threads=setup.choice.threads, proof_threads=setup.proof_threads)
    return Grounds(shards=shards, setup=setup, recipes=recipes)


def tokens(folder: Path, *, text: Path | None, vocabulary: int, clock: Clock, listener: Listener) -> Shards:
    """Text to tokens.

    Raises:
        UsageError: several processes were started for it.
    """
    alone("a ladder")
    with clock.stage("text to tokens"):
        source = corpus.source(text)
        shards = tokenize(
            source.documents,
            folder=folder / "shards",
            vocabulary=vocabulary,
            validation_fraction=VALIDATION_FRACTION,
            source=source.description,
            on_progress=None,
        )
    listener.say(facts(shards))
    for reason in sorted(set(source.skipped.values())):
        names = [name for name, why in source.skipped.items() if why == reason]
        listener.say(f"skipped {len(names)} files, {reason}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
    return shards


def measured(folder: Path, rung: Recipe, proof: Recipe, *, clock: Clock, listener: Listener) -> climbing.Setup:
    """The machine, by a rung that stands for the ladder and by the proof."""
    with clock.stage("machine measured"):
        setup = climbing.setup(folder / LADDER, rung, proof=proof)
    threads = f"{setup.proof_threads} thread{'s' if setup.proof_threads > 1 else ''}"
    matmul = units.show(setup.peak_flop_per_s * setup.choice.workers, "FLOP/s")
    listener.say(f"cores: {setup.choice.reason}; matmul {matmul}; the kept-out run alone: {threads}")
    return setup


def facts(shards: Shards) -> str:
    """The tokens in one line."""
    train, validation = shards.header.splits["train"], shards.header.splits["validation"]
    n_bytes, n_tokens = train.n_bytes + validation.n_bytes, train.n_tokens + validation.n_tokens
    return (
        f"{shards.header.source}: {n_bytes / 1e6:.1f} MB, {units.show(train.n_tokens, 'tokens')} tokens to train on, "
        f"{units.show(validation.n_tokens, 'tokens')} held out; vocabulary {shards.header.vocabulary}, "
        f"{n_bytes / n_tokens:.2f} bytes a token"
    )


def climb(grounds: Grounds, folder: Path, *, clock: Clock, listener: Listener) -> climbing.Climb:
    """The rungs, the law, the forecast, and only then the proof."""
    place = folder / LADDER
    n_fit = len(grounds.recipes) - 1
    with clock.stage("ladder", f"{n_fit} rungs"), listener.progress("ladder") as on_event:
        runs, law, second = climbing.rungs_and_law(grounds.recipes, folder=place, made=grounds.setup, on_event=on_event)
    return _proved(grounds.recipes[-1], [*runs], law, second, place, grounds.setup, clock=clock, listener=listener)


def _proved(
    proof: Recipe,
    runs: list[Run],
    law: Fit,
    second: Approach2 | None,
    place: Path,
    setup: climbing.Setup,
    *,
    clock: Clock,
    listener: Listener,
    where: Where = HERE,
) -> climbing.Climb:
    """The forecast, and only then the run it speaks of."""
    said = climbing.forecast(proof, law, folder=place)
    listener.say(
        f"forecast of the kept-out rung, {units.show(said.compute_flop, 'FLOP')}: {said.loss_nats.value:.4f} nats a "
        f"token, 90 % interval {said.loss_nats.lo:.4f} to {said.loss_nats.hi:.4f} (written {said.written}, "
        f"{'before that rung was trained' if said.blind else 'when that rung had already been trained'})"
    )
    with clock.stage("proof", "the kept-out rung"), listener.progress("proof") as on_event:
        run, said = climbing.prove(
            proof, said, folder=place, made=setup, on_event=on_event, executor=where.executor, settings=where.settings
        )
    return climbing.conclude(place, runs=[*runs, run], law=law, second=second, said=said, made=setup)


def laid_out(plan: LadderPlan, *, budget_flop: float | None, law: Fit, target_flop: float | None = None) -> Layout:
    """Sizes and points within the budget; of a designed ladder those that `law` finds worth their cost.

    Raises:
        InfeasibleError: the budget is too small for the plan.
    """
    layout = laid(plan) if budget_flop is None else of_budget(plan, budget_flop)
    return designed(layout, law, target_flop=target_flop) if plan.design == "designed" else layout


def ascend(
    layout: Layout,
    folder: Path,
    *,
    text: Path | None,
    resume: Resume,
    clock: Clock,
    listener: Listener,
    where: Where = HERE,
) -> tuple[Ascent, Shards]:
    """A ladder of trunks and branches: tokens, rates, points, law, forecast, proof."""
    place = folder / LADDER
    ascent.claim(place, layout.plan, resume=resume)
    shards = tokens(folder, text=text, vocabulary=layout.vocabulary, clock=clock, listener=listener)
    if said := ascent.epochs(layout, unique_tokens=shards.header.splits["train"].n_tokens):
        listener.say(said)
    usual = usual_rate(layout.plan)
    bare = Ground(str(shards.folder), 1, 1)
    trial = next(limbs(middle(layout), bare, usual)).trunk
    setup = measured(folder, trial, proof(layout, bare, usual), clock=clock, listener=listener)
    ground = Ground(str(shards.folder), setup.choice.threads, setup.proof_threads)
    tuned: list[Run] = []
    line: RateLine | None = None
    if layout.swept:
        with clock.stage("learning rates"), listener.progress("learning rates") as on_event:
            tuned, line = ascent.find_rates(layout, ground, folder=place, made=setup, where=where, on_event=on_event)
        listener.say(rates_told(line, layout))
    rate = usual if line is None else lambda n_params: line.at(n_params).value
    with clock.stage("ladder"), listener.progress("ladder") as on_event:
        runs = ascent.train_points(layout, ground, rate, folder=place, made=setup, where=where, on_event=on_event)
    with clock.stage("law"):
        law, noise, misfit_sd = ascent.fit_law(runs, folder=place)
    climb = _proved(
        proof(layout, ground, rate), [*tuned, *runs], law, None, place, setup, clock=clock, listener=listener,
        where=where,
    )  # fmt: skip
    return ascent.ascent(climb, layout, rates=line, noise=noise, misfit_sd=misfit_sd), shards


def rates_told(line: RateLine | None, layout: Layout) -> str:
    """The line through the best rates, in a sentence."""
    if line is None:
        return "learning rates: by the published rule"
    ends = ", ".join(
        f"{line.at(size.n_params).value:.3g} at {units.show(size.n_params, 'parameters')}"
        for size in (layout.sizes[0], layout.sizes[-1], layout.proof)
    )
    edge = "".join(f". {warning}" for warning in line.warnings)
    return f"learning rates: log rate = {line.a:.3g} {line.b:+.3g} log N: {ends}{edge}"


def plans(climb: climbing.Climb, folder: Path, *, question: str, clock: Clock) -> dict[str, Plan]:
    """What the budget in `question` ("8xH100 for 7 days") should train, by the ladder's law and by a published one.

    Raises:
        UsageError: not a question of that form.
    """
    devices, separator, days = question.partition(" for ")
    if not separator:
        raise UsageError(f"{question!r}: write it as '8xH100 for 7 days'")
    asked = ask(units.parse_devices(devices, name="devices"), Budget(wall_s=units.parse(days, "s", name="time")))
    with clock.stage("plan", question):
        laws = {"this ladder": climb.law, PUBLISHED: load(PUBLISHED)}
        found = {name: answer(asked, law, law=name) for name, law in laws.items()}
    for name, plan in found.items():
        write_json(folder / f"plan-{name.replace(' ', '-')}.json", {"schema": SCHEMA, **payload(plan)})
    return found


def page(
    climb: climbing.Climb, grounds: Grounds, folder: Path, *, question: str, answers: dict[str, Plan], clock: Clock
) -> Path:
    """Write `report.html`."""
    path = folder / "report.html"
    with clock.stage("page"):
        content = story.content(
            climb,
            folder=folder / LADDER,
            plan_question=question,
            plans=[_column(name, answers[name], climb) for name in answers],
            stages=clock.stages,
            warnings=_late(climb),
            **_about(climb, grounds.shards, compute_flop=sum(run.flop for run in climb.runs)),
        )
        write(content, path)
    return path


def ladder_page(found: Ascent, shards: Shards, folder: Path, *, path: Path, clock: Clock) -> Path:
    """The page of a ladder of trunks."""
    with clock.stage("page"):
        content = story.content(
            found.climb,
            folder=folder / LADDER,
            stages=clock.stages,
            sheets=ladder_story.sheets(found),
            warnings=[*_late(found.climb), *(found.rates.warnings if found.rates else []), *found.flagged],
            **_about(found.climb, shards, compute_flop=found.compute_flop),
        )
        write(content, path)
    return path


def _late(climb: climbing.Climb) -> list[str]:
    return [] if climb.forecast.blind else ["the forecast was written when the kept-out run already existed"]


class _About(TypedDict):
    """What every page of a ladder says of where it is from."""

    title: str
    text_source: str
    tokenizer: str
    stamp: stamp.Stamp


def _about(climb: climbing.Climb, shards: Shards, *, compute_flop: float) -> _About:
    header = shards.header
    return _About(
        title=f"A scaling law from {units.show(compute_flop, 'FLOP')}, and its proof",
        text_source=header.source,
        tokenizer=f"byte-level BPE, {header.vocabulary} tokens",
        stamp=stamp.make({"shards": header.content_sha256, "law": climb.forecast.law_sha256}),
    )


def _column(name: str, plan: Plan, climb: climbing.Climb) -> Column:
    """The compute-optimal option as the page shows it."""
    best = plan.options[0]
    seen = climb.law.max_compute_flop if name == "this ladder" else load(name).max_compute_flop
    return Column(
        law=name,
        n_params=best.n_params,
        n_tokens=best.n_tokens,
        loss_nats=best.loss_nats,
        compute_flop=best.compute_flop,
        extrapolation=best.compute_flop / seen,
        memory_bytes=best.memory_bytes_per_device,
        wall_s=best.wall_s.value,
        device_hours=best.device_hours,
        cost_usd=best.cost_usd,
        carbon_kg=best.carbon_kg,
        warnings=[*plan.warnings, *best.warnings],
    )
