"""trackio: a database on this disk ($TRACKIO_DIR), shown by `trackio show --project isoflop`."""

from collections.abc import Mapping
from typing import Any

from isoflop.train.sinks import Opening

NEEDS, EXTRA = "trackio", "trackio"


class Run:
    """One run by its id and key, so that a resume goes on with it. Its history only grows: no step is told twice."""

    rewinds = False

    def __init__(self, opening: Opening) -> None:
        import trackio

        self._run: Any = trackio.init(
            project=opening.setting or "isoflop",
            name=f"{opening.run_id}-{opening.key}",
            config=dict(opening.config),
            resume="allow",
            embed=False,
        )

    def rewind(self, step: int) -> None:
        """A history only grows."""

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """All of a line at once."""
        self._run.log(dict(values), step=step)

    def close(self, status: str) -> None:
        """Write the rest."""
        self._run.finish()


def open(opening: Opening) -> Run:
    """In project "isoflop", or the one named."""
    return Run(opening)
