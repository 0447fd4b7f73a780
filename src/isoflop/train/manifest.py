"""What a checkpoint says of itself: `manifest.json`. Nothing here imports torch.

The seal is the hash of all else in the file, as canonical JSON. It holds for every schema, so a damaged manifest is
never taken for a newer one.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from isoflop import __version__, files
from isoflop.errors import InputError, UsageError

MANIFEST = "manifest.json"
_SCHEMA = "isoflop/checkpoint@"
_NEWEST = 2
_NAME = re.compile(r"step-(\d{8,})")


class Member(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a checkpoint."""

    sha256: str
    n_bytes: int


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the run stood.

    Attributes:
        n_tokens: seen in training.
        loss_nats: of training, exponential mean over about 20 steps; None before the first.
        validation_loss_nats: at the last evaluation before; None where there was none.
    """

    n_tokens: int = 0
    loss_nats: float | None = None
    validation_loss_nats: float | None = None


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint must hold to be one.

    Attributes:
        step: optimizer steps done.
        key: `Recipe.key` of the run.
        members: its files by name.
        state: whatever else the loop needs to go on, plain JSON.
        metrics: for those who look for a checkpoint.
        recipe: the run's, plain; `recipe["model"]` is the model's spec. Empty in checkpoints of schema 1.
        isoflop: version that wrote it; None in schema 1.
        sha256: of all other fields.
    """

    step: int
    key: str
    members: dict[str, Member]
    state: dict[str, Any]
    metrics: Metrics = Metrics()
    recipe: dict[str, Any] = {}
    isoflop: str | None = None
    sha256: str = ""
    schema: Literal["isoflop/checkpoint@1", "isoflop/checkpoint@2"] = "isoflop/checkpoint@2"


class Entry(Struct, frozen=True, kw_only=True):
    """One checkpoint in a listing.

    Attributes:
        manifest: None where it cannot be read.
        n_bytes: of its files.
        damage: what is wrong, as far as can be seen without reading every byte; "" for nothing.
    """

    folder: Path
    step: int
    manifest: Manifest | None
    n_bytes: int
    damage: str = ""


def write(folder: Path, manifest: Manifest) -> None:
    """Write it, sealed and stamped with the version, into a checkpoint's folder.

    Raises:
        ResourceError: no room, or no permission to write.
    """
    plain = msgspec.to_builtins(msgspec.structs.replace(manifest, isoflop=__version__))
    files.write_json(folder / MANIFEST, {**plain, "sha256": _seal(plain)})


def read(folder: Path) -> Manifest:
    """The manifest of a checkpoint's folder.

    Raises:
        InputError: missing, damaged, or none.
        UsageError: whole, but of a newer isoflop.
    """
    path = folder / MANIFEST
    plain = files.read_json(path, dict[str, Any])
    if plain.get("sha256") != _seal(plain):
        raise InputError(f"{path}: changed since it was written")
    schema = str(plain.get("schema"))
    number = schema.removeprefix(_SCHEMA)
    if schema.startswith(_SCHEMA) and number.isdecimal() and int(number) > _NEWEST:
        raise UsageError(
            f"{folder}: a checkpoint of schema {schema}, written by isoflop {plain.get('isoflop')}; this is "
            f"{__version__}, which reads up to {_SCHEMA}{_NEWEST}. Go on with that version"
        )
    try:
        return msgspec.convert(plain, Manifest)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from error


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Hold the files' sizes against the manifest.

    Raises:
        InputError: one is missing, cut off or too long; names it.
    """
    for name, member in manifest.members.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: missing")
        if path.stat().st_size != member.n_bytes:
            raise InputError(f"{path}: {path.stat().st_size} bytes where {member.n_bytes} were written")


def folders(parent: Path) -> list[Path]:
    """Checkpoints by step, oldest first, whatever the clock said when they were written."""
    if not parent.is_dir():
        return []
    found = {int(match[1]): path for path in parent.iterdir() if (match := _NAME.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    return int(folder.name.removeprefix("step-"))


def listing(parent: Path) -> list[Entry]:
    """Every checkpoint in a folder of them, oldest first; sizes are checked, hashes are not."""
    found = []
    for folder in folders(parent):
        with suppress(FileNotFoundError):  # a run at work takes old ones away
            found.append(_entry(folder))
    return found


def _entry(folder: Path) -> Entry:
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    manifest, damage = None, ""
    try:
        manifest = read(folder)
        check_sizes(folder, manifest)
    except (InputError, UsageError) as error:
        damage = str(error)
    return Entry(folder=folder, step=step_of(folder), manifest=manifest, n_bytes=n_bytes, damage=damage)


def _seal(plain: dict[str, Any]) -> str:
    return files.sha256_value({**plain, "sha256": ""})
