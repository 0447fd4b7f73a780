"""Weights & Biases, in the mode that $WANDB_MODE says: `WANDB_MODE=offline` needs no network and no account."""

from collections.abc import Mapping
from typing import Any

from isoflop.train.sinks import Opening

NEEDS, EXTRA = "wandb", "wandb"


class Run:
    """One run by its key, so that a resume goes on with it. Its history only grows: no step is told twice."""

    rewinds = False

    def __init__(self, opening: Opening) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=opening.setting or "isoflop",
            id=f"{opening.run_id}-{opening.key}",
            name=opening.run_id,
            config=dict(opening.config),
            dir=str(opening.folder),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", init_timeout=60),
        )

    def rewind(self, step: int) -> None:
        """A history only grows."""

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """All of a line at once."""
        self._run.log(dict(values), step=step)

    def close(self, status: str) -> None:
        """Whether it ended, and how; a stopped run is no failure."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status in {"finished", "interrupted"} else 1)


def open(opening: Opening) -> Run:
    """In project "isoflop", or the one named."""
    return Run(opening)
