"""Checkpoints that survive kill -9, a full disk and a flipped bit, and that no reader has to trust.

    checkpoints/step-00000123/
        model.safetensors        the weights
        optimizer.safetensors    the optimizers' moments and the state of the random generators
        manifest.json            step, key of the run, sha256 and size of each file, small state; its own sha256

A checkpoint is written into a hidden folder beside its place, synced to disk, then renamed: it is there whole or not
at all. Reading takes the newest whose every byte agrees with its manifest. Nothing is pickled. Torch is imported by
what touches tensors alone, so that runs can be listed without it.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from isoflop import files
from isoflop.errors import InputError, UsageError
from isoflop.train import manifest
from isoflop.train.manifest import Entry, Manifest, Metrics
from isoflop.train.record import CHECKPOINTS

if TYPE_CHECKING:
    from torch import Tensor

Groups: TypeAlias = "Mapping[str, Mapping[str, Tensor]]"
"""Tensors by file ("model", "optimizer") and name."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A checkpoint that verified.

    Attributes:
        tensors: by file and name, on the CPU.
    """

    folder: Path
    manifest: Manifest
    tensors: "dict[str, dict[str, Tensor]]"


class Keep(Struct, frozen=True, kw_only=True):
    """Which checkpoints stay when one has been written.

    Attributes:
        newest: so many.
        every: those of every so many steps, for good.
        steps: these.
    """

    newest: int = 2
    every: int | None = None
    steps: frozenset[int] = frozenset()


def save(
    parent: Path,
    *,
    step: int,
    key: str,
    tensors: Groups,
    state: Mapping[str, Any],
    metrics: Metrics | None = None,
    recipe: Mapping[str, Any] | None = None,
    keep: Keep | None = None,
) -> Path:
    """Write a checkpoint; once it is on the disk for good, take away what `keep` does not name.

    Raises:
        ResourceError: the disk is full or cannot be written; earlier checkpoints are as they were.
    """
    from isoflop.train import tensor_file

    place = parent / f"step-{step:08d}"
    beside = parent / f".{place.name}.writing"
    with files.disk(parent):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            members = {
                name: tensor_file.write(beside / name, group)
                for name, group in ((f"{group}.safetensors", tensors[group]) for group in tensors)
            }
            about = Manifest(
                step=step,
                key=key,
                members=members,
                state=dict(state),
                metrics=metrics or Metrics(),
                recipe=dict(recipe or {}),
            )
            manifest.write(beside, about)
            _sync(beside)
            discard(place)
            beside.rename(place)
            _sync(parent)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        _prune(parent, step=step, keep=keep or Keep())
    return place


def newest(
    parent: Path,
    *,
    key: str,
    warn: Callable[[str], None],
    wanted: Callable[[int], bool] = lambda step: True,
) -> Checkpoint | None:
    """The newest checkpoint that verifies; each damaged one is named in a warning. None where there is none at all.

    Args:
        wanted: whether a checkpoint of that step is looked at.

    Raises:
        UsageError: a checkpoint of another run, or of a newer isoflop, lies here.
        InputError: there are checkpoints, and not one is whole. A run never begins again over them in silence.
    """
    found = [folder for folder in manifest.folders(parent) if wanted(manifest.step_of(folder))]
    for folder in reversed(found):
        try:
            whole = load(folder)
        except InputError as error:
            warn(f"checkpoint skipped: {error}")
            continue
        if whole.manifest.key != key:
            raise UsageError(
                f"{folder}: belongs to run {whole.manifest.key}, not {key}; two different runs in one folder. "
                "Choose another --name, or remove the old run"
            )
        return whole
    if found:
        raise InputError(
            f"{parent}: none of its {len(found)} checkpoints is whole. Put one back from a copy, or remove {parent} to "
            "train again from the beginning"
        )
    return None


def load(folder: Path) -> Checkpoint:
    """Read one checkpoint, every byte held against its manifest.

    Raises:
        InputError: a file is missing, cut off or changed; names it.
        UsageError: it is of a newer isoflop.
    """
    from safetensors.torch import load_file

    about = manifest.read(folder)
    manifest.check_sizes(folder, about)
    for name, member in about.members.items():
        try:
            sha256 = files.sha256_file(folder / name)
        except OSError as error:  # a disk that gives its bytes no more has damaged them
            raise InputError(f"{folder / name}: cannot be read ({error.strerror})") from error
        if sha256 != member.sha256:
            raise InputError(f"{folder / name}: damaged (sha256 differs)")
    tensors = {name.removesuffix(".safetensors"): load_file(folder / name) for name in about.members}
    return Checkpoint(folder=folder, manifest=about, tensors=tensors)


def listing(run: Path) -> list[Entry]:
    """The checkpoints of a run's folder, oldest first, without torch; sizes are checked, hashes are not."""
    return manifest.listing(run / CHECKPOINTS)


def discard(folder: Path) -> None:
    """Remove a checkpoint so that a crash in between leaves no half of it under its name."""
    doomed = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(doomed, ignore_errors=True)
    if folder.exists():
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(parent: Path, *, step: int, keep: Keep) -> None:
    """Those beyond `step` were damaged and trained past, hidden ones were never finished."""
    found = manifest.folders(parent)
    upto = [manifest.step_of(folder) for folder in found if manifest.step_of(folder) <= step]
    kept = {*upto[-keep.newest :], *(keep.steps & set(upto))}
    kept |= {at for at in upto if keep.every and at and at % keep.every == 0}
    for folder in found:
        if manifest.step_of(folder) not in kept:
            discard(folder)
    for leftover in parent.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)
