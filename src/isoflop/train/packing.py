"""Which runs fit beside each other, by the memory they are predicted to take."""

from collections.abc import Iterable, Mapping

from isoflop.specs.recipe import Recipe
from isoflop.train.predicted import layout_of, predict, usual_engine

PROCESS_BYTES = 0.5e9
"""Of a worker besides its tensors: torch itself, on a GPU the context (measured: 0.35 to 0.5 GB)."""


def needs_bytes(recipe: Recipe, *, kind: str) -> float:
    """What a worker that trains it is predicted to take on a "cpu" or "cuda" device, at its usual micro-batch."""
    engine = usual_engine(recipe, kind=kind)
    foreseen = predict(recipe, engine=engine, layout=layout_of(recipe, rows=engine.rows), device=None)
    return PROCESS_BYTES + (foreseen.memory_bytes or 0.0)


class Packing:
    """Keeps the runs that share a memory within it.

    A run alone always fits: where the count says otherwise, the trainer takes its batch in smaller parts.
    """

    def __init__(self, room_bytes: Mapping[str, float]) -> None:
        """`room_bytes`: of each memory, by name; one that is not there has no limit."""
        self._room = room_bytes
        self._needs: dict[tuple[int, str], float] = {}

    def fits(self, recipe: Recipe, *, memory: str, beside: Iterable[Recipe]) -> bool:
        """Whether the run fits into that memory beside those that take from it already."""
        others = list(beside)
        if memory not in self._room or not others:
            return True
        kind = "cuda" if memory.startswith("GPU") else "cpu"
        together = sum(self._need(each, kind=kind) for each in [recipe, *others])
        return together <= self._room[memory]

    def _need(self, recipe: Recipe, *, kind: str) -> float:
        known = (id(recipe), kind)
        if known not in self._needs:
            self._needs[known] = needs_bytes(recipe, kind=kind)
        return self._needs[known]
