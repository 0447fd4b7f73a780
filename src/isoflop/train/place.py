"""Where a checkpoint lies, from the name a person gives it; nothing here needs torch."""

import re
from pathlib import Path

from isoflop.errors import InputError
from isoflop.train import store
from isoflop.train.record import CHECKPOINTS

_STEP = re.compile(r"step-(\d+)")


def locate(name: str) -> tuple[Path, Path]:
    """The folder of a checkpoint and that of its run.

    Args:
        name: the checkpoint's folder, "RUN@STEP", or the run's folder, which means its newest.

    Raises:
        InputError: there is none of that name; those that there are, are named.
    """
    path = Path(name)
    if _STEP.fullmatch(path.name) and path.is_dir():
        home = path.resolve().parent.parent
        if not (home / store.RUN).is_file():
            raise InputError(f"{path}: no {store.RUN} two folders above; a checkpoint is read in its run's folder")
        return path, home
    if (path / store.RUN).is_file():
        there = _steps(path)
        if not there:
            raise InputError(f"{path}: this run has no checkpoint")
        return there[max(there)], path
    run, _, step = name.rpartition("@")
    if run and step.isdigit() and (Path(run) / store.RUN).is_file():
        there = _steps(Path(run))
        if int(step) in there:
            return there[int(step)], Path(run)
        known = ", ".join(map(str, sorted(there))) or "none"
        raise InputError(f"{name}: no checkpoint of step {int(step)}; there are: {known}")
    raise InputError(
        f"{name}: no such checkpoint. Name its folder (runs/tiny/checkpoints/step-00000800), runs/tiny@800, or the "
        "run's folder runs/tiny for its newest"
    )


def _steps(run: Path) -> dict[int, Path]:
    """The checkpoints of a run by step."""
    parent = run / CHECKPOINTS
    if not parent.is_dir():
        return {}
    return {int(match[1]): path for path in parent.iterdir() if (match := _STEP.fullmatch(path.name))}
