"""One process with all cores, or one process per core? Measured: some seconds of real training each.

What is fastest for a rung is not for the proof: of a nano model two threads wait for each other more than they compute,
and one twenty times as large is trained nearly twice as fast by both.
"""

from collections.abc import Callable

from msgspec import Struct, structs

from isoflop.specs.recipe import Recipe
from isoflop.train.crew import Crew
from isoflop.train.protocol import Rehearse


class Choice(Struct, frozen=True, kw_only=True):
    """How to use the cores, and the two rates that decided it.

    Attributes:
        workers: processes at once.
        threads: of each.
        together_tokens_per_s: one process with all cores; None where nothing was measured.
        apart_tokens_per_s: one-thread processes, one per core, all of them together; None likewise.
        reason: the choice in one sentence.
    """

    workers: int
    threads: int
    together_tokens_per_s: float | None = None
    apart_tokens_per_s: float | None = None
    reason: str


class Alone(Struct, frozen=True, kw_only=True):
    """How a run is trained that has the machine to itself.

    Attributes:
        threads: of its process.
        tokens_per_s: as tried for some seconds; None where nothing was.
    """

    threads: int
    tokens_per_s: float | None = None


def choose_threads(recipe: Recipe, *, cores: int, seconds: float = 3.0) -> Alone:
    """Train a recipe for some seconds with all cores, then with half as many as long as that is faster.

    Raises:
        IsoflopError: the recipe cannot be trained; the reason is the trainer's.
    """

    def tried(threads: int) -> float:
        with Crew.of_processes(1, threads=threads, bound=True) as crew:
            return crew.ask(Rehearse(recipe=structs.replace(recipe, threads=threads), seconds=seconds))[0]

    return fastest(tried, cores=cores)


def fastest(tried: Callable[[int], float], *, cores: int) -> Alone:
    """The best of the thread counts tried; half as many are while that was faster."""
    threads, rate = cores, tried(cores)
    while threads > 1 and (halved := tried(threads // 2)) > rate:
        threads, rate = threads // 2, halved
    return Alone(threads=threads, tokens_per_s=rate)


def choose_workers(recipe: Recipe, *, cores: int, seconds: float = 3.0) -> Choice:
    """Train a middle rung for some seconds both ways and take the faster.

    A tie within the noise of such short measurements (2 %) goes to separate processes: they also overlap the
    evaluations and the saving of one run with the training of another.

    Args:
        recipe: a rung that stands for the ladder; its `threads` are of no meaning here.
        cores: to use; above what `train.cores` finds, processes would wait for each other.
        seconds: of training for each way, after torch has started (2 s) and the first steps are over.

    Raises:
        IsoflopError: the recipe cannot be trained; the reason is the trainer's.
    """
    with Crew.of_processes(1, threads=cores, bound=True) as crew:
        ready = crew.all_ready()[0]
        if ready.device == "cuda" and recipe.device != "cpu":
            name, count = ready.accelerators[0].name, len(ready.accelerators)
            each = "one process on" if count == 1 else f"{count} processes, each on one"
            reason = f"{each} {name}: a GPU is not shared"
            return Choice(workers=count, threads=max(1, cores // count), reason=reason)
        if cores == 1:
            return Choice(workers=1, threads=1, reason="one core: one process with one thread")
        together = sum(crew.ask(Rehearse(recipe=structs.replace(recipe, threads=cores), seconds=seconds)))
    with Crew.of_processes(cores, threads=1, bound=True) as crew:
        apart = sum(crew.ask(Rehearse(recipe=structs.replace(recipe, threads=1), seconds=seconds)))
    return decide(cores=cores, together_tokens_per_s=together, apart_tokens_per_s=apart)


def decide(*, cores: int, together_tokens_per_s: float, apart_tokens_per_s: float) -> Choice:
    """The choice that two rates make."""
    gain = apart_tokens_per_s / together_tokens_per_s
    apart = gain >= 0.98
    ways = f"{cores} one-thread processes", f"one process with {cores} threads"
    rates = f"{apart_tokens_per_s:.0f} against {together_tokens_per_s:.0f} tokens/s"
    reason = (
        f"{ways[0]}: x{gain:.2f} the speed of {ways[1]} ({rates})"
        if apart
        else f"{ways[1]}: x{1 / gain:.2f} the speed of {ways[0]} ({together_tokens_per_s:.0f} against "
        f"{apart_tokens_per_s:.0f} tokens/s)"
    )
    return Choice(
        workers=cores if apart else 1,
        threads=1 if apart else cores,
        together_tokens_per_s=together_tokens_per_s,
        apart_tokens_per_s=apart_tokens_per_s,
        reason=reason,
    )
