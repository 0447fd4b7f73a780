"""The one training loop: a recipe and a folder in, a `Run` out, whatever happens in between.

The folder decides: a run that ended there is returned at once, one that was cut off goes on from its newest whole
checkpoint, bit for bit as if it had never stopped, because the state is the step, the tensors and a few plain numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from msgspec import structs

from isoflop.data.sources import Sources, open_sources
from isoflop.errors import IsoflopError, PreemptedError, ResourceError, StoppedError
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run, Status
from isoflop.train import origin, record
from isoflop.train.events import Event, ignore, never
from isoflop.train.interrupt import listening
from isoflop.train.learner import reproducible
from isoflop.train.micro import ran_out
from isoflop.train.session import Session
from isoflop.train.task import check
from isoflop.train.team import ALONE, Team, place


def train(
    recipe: Recipe,
    *,
    folder: Path,
    on_event: Callable[[Event], None] = ignore,
    should_stop: Callable[[], bool] = never,
    peak_flop_per_s: float | None = None,
    sinks: Sequence[str] = (),
    patient: bool = False,
) -> Run:
    """Train `recipe` in `folder`, or go on with it.

    Args:
        recipe: what to train; its shards must exist.
        folder: of this run alone; its name becomes the run's id.
        on_event: told what happens, steps at most twice a second.
        should_stop: asked before every step; True saves and raises. SIGINT and SIGTERM do the same, unless the program
            has handlers of its own.
        peak_flop_per_s: as measured; without it the run has no MFU.
        patient: another process that trains in the folder is waited for, not refused; its run may be ours, too.
        sinks: where the curve is shown besides the folder, each "NAME" or "NAME:SETTING"; see `outlet.asked`.

    Returns:
        the run, `status` "finished", or "diverged" with the step and the reason in `note`.

    Raises:
        UsageError: the folder is another run's, or another process trains in it, or the recipe does not fit its data.
        InputError: the shards are missing or damaged.
        StoppedError, PreemptedError: asked to stop; everything is saved.
        ResourceError: memory or disk ran out; the last checkpoint stands.
    """
    sources = _open(recipe)
    with team_of(recipe) as team, ExitStack() as held, listening() as wish:
        recipe, ancestor = team.first(partial(origin.resolved, recipe, folder=folder, sources=sources))
        key = recipe.key(data_sha256=sources.content_sha256)

        def waits() -> bool:
            return patient and not (wish or should_stop())

        if run := team.first(lambda: _claimed(held, folder, key=key, patient=waits)):
            return run
        with reproducible(recipe):
            session = Session(
                recipe,
                sources=sources,
                folder=folder,
                key=key,
                on_event=on_event,
                peak_flop_per_s=peak_flop_per_s and team.total(peak_flop_per_s)[0] * team.tensor,
                sinks=sinks,
                ancestor=ancestor,
                team=team,
            )
            with _accounted(session), team.answering():
                if run := session.run(lambda: bool(wish) or should_stop()):
                    session.journal.close(run.status)
                    return run
                raise wish.error(f"at step {session.counters.step} of {recipe.steps}, saved")


@contextmanager
def team_of(recipe: Recipe) -> Iterator[Team]:
    """All processes that train it: those that the environment tells of, or this one alone.

    Raises:
        UsageError: several cannot train this recipe, or there are not so many.
        PreemptedError: another of them has ended.
    """
    here = place()
    if here.world == 1:
        yield ALONE
        return
    from isoflop.train.parallel import joined  # which one process has no use for

    with joined(recipe, here) as team:
        yield team


def _claimed(held: ExitStack, folder: Path, *, key: str, patient: Callable[[], bool]) -> Run | None:
    """Be the only one in the folder as long as `held` is open; the run, where it has ended there."""
    held.enter_context(record.claimed(folder, patient=patient))
    return record.settled(folder, key=key)


def _open(recipe: Recipe) -> Sources:
    """The recipe's shards.

    Raises:
        InputError: they are missing or damaged.
        UsageError: the model's vocabulary is too small for them and what is learned, or they do not go together.
    """
    sources = open_sources(recipe.sources)
    check(recipe, sources)
    return sources


@contextmanager
def _accounted(session: Session) -> Iterator[None]:
    """Whatever ends the session, `run.json` says so."""
    try:
        yield
    except (StoppedError, PreemptedError, KeyboardInterrupt) as error:
        _close(session, "interrupted", str(error))
        raise
    except Exception as error:
        if ran_out(error):
            message = (
                f"memory ran out at step {session.counters.step} on {session.record.device}. Take a smaller model, "
                'context or vocabulary, precision = "bf16", or recompute = "full"; the batch was already taken in parts'
            )
            _close(session, "failed", message)
            raise ResourceError(message) from error
        _close(session, "failed", str(error) if isinstance(error, IsoflopError) else f"{type(error).__name__}: {error}")
        raise


def _close(session: Session, status: Status, note: str) -> None:
    # The disk may be what failed; the error under way says more than a second one would.
    with suppress(ResourceError):
        run = session.current()
        said = f"{note}. Before: {run.note}" if run.note else note
        session.write(structs.replace(run, status=status, note=said))
    with suppress(ResourceError):
        session.journal.close(status)  # a sink may take its time, and who asked us to stop may have none
