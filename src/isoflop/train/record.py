"""A run's folder, where one process at a time writes.

recipe.toml      the recipe as resolved
run.json         the `Run`: status, loss, work
metrics.jsonl    the curve, one `Row` a line
checkpoints/     see `checkpoint`
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from isoflop import files
from isoflop.errors import InputError, UsageError
from isoflop.locks import holder, sign, taken
from isoflop.specs import recipe_file
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import store
from isoflop.train.events import never
from isoflop.train.seconds import Seconds

LOCK, CHECKPOINTS = ".lock", "checkpoints"
_WAIT_S = 0.1


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `metrics.jsonl`: of training, or of an evaluation (`validation_loss_nats` is set).

    Attributes:
        loss_nats: mean over the steps since the line before.
        grad_norm: of the last step, before clipping.
        tokens_per_s: of training alone, since the line before.
        wall_s: since the run began, over all its resumes.
        mfu: at that speed.
        spent: what the time since the line before went into.
        memory_bytes, tensors_bytes, process_bytes: at most so far; see `gauges.Peak`.
        expert_load: of the last step's last micro-batch; see `gauges.expert_load`.
        validation_tokens: how many tokens the evaluation predicted.
        validation_sources: of a mixture, nats per token on each source's part of it.
    """

    step: int
    n_tokens: int
    wall_s: float
    loss_nats: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_s: float | None = None
    mfu: float | None = None
    spent: Seconds | None = None
    memory_bytes: float | None = None
    tensors_bytes: float | None = None
    process_bytes: float | None = None
    expert_load: float | None = None
    validation_loss_nats: float | None = None
    validation_tokens: int | None = None
    bits_per_byte: float | None = None
    validation_sources: dict[str, float] | None = None


@contextmanager
def claimed(folder: Path, *, patient: Callable[[], bool] = never) -> Iterator[None]:
    """Be the only process that trains in this folder; the kernel lets go when the process is gone, however it went.

    Args:
        patient: asked while another one is at work here; True waits for its end.

    Raises:
        UsageError: another one is at work here.
        ResourceError: the folder cannot be written.
    """
    with files.disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not (ours := taken(handle)) and patient():
            time.sleep(_WAIT_S)
        if not ours:
            raise UsageError(
                f"{folder}: process {holder(handle) or '(unknown)'} is already training here. Wait for it, stop it, or "
                "choose another folder"
            )
        with files.disk(folder):
            sign(handle)
        yield
    finally:
        os.close(handle)


def settled(folder: Path, *, key: str) -> Run | None:
    """The run that already ended here, finished or diverged; None where there is something left to train.

    Raises:
        UsageError: the folder is another run's.
    """
    run = store.read(folder)
    if run is None:
        return None
    if run.key != key:
        raise UsageError(
            f"{folder}: holds run {run.key}, and this recipe on this data is {key}; two different runs in one folder. "
            "Choose another --name, or remove the old run"
        )
    return run if run.status in {"finished", "diverged"} else None


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write `recipe.toml`."""
    files.write_atomic(folder / store.RECIPE, recipe_file.written(recipe))


def write_run(folder: Path, run: Run) -> None:
    """Write `run.json`, whole or not at all."""
    files.write_json(folder / store.RUN, run)


def append(folder: Path, row: Row) -> None:
    """Add one line to the curve."""
    files.append_line(folder / store.METRICS, row)


def cut(folder: Path, *, step: int) -> list[str]:
    """Take from the curve what a run that goes on from `step` will write again, and lines that no one can read.

    The evaluation at `step` itself goes too: a checkpoint is saved before it is evaluated. The curve is for the eye
    and no part of the run's state: damage to it, which a power cut leaves, does not keep a run from going on.

    Returns:
        a sentence for each line lost to damage.

    Raises:
        InputError: the file cannot be read at all.
        ResourceError: no room, or no permission to write.
    """
    path = folder / store.METRICS
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    kept, damage = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=Row)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            damage.append(f"{path} line {number}: {error}")
            continue
        if row.step < step or (row.step == step and row.validation_loss_nats is None):
            kept.append(row)
    files.write_atomic(path, b"".join(msgspec.json.encode(row) + b"\n" for row in kept))
    return damage
