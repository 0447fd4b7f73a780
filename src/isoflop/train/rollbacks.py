"""How often a run went back: a small file beside its checkpoints, written before anything is taken away.

It says first that the run goes back, then that all beyond is gone. Killed anywhere in between, the next start finishes
it, and a checkpoint from before the trouble is never mixed up with one of the same step after it.
"""

from pathlib import Path

from msgspec import Struct

from isoflop import files
from isoflop.errors import InputError
from isoflop.train import checkpoint, manifest
from isoflop.train.divergence import Rollback

_FILE = "rollbacks.json"


class _History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`cleared`: the checkpoints beyond the last rollback are gone. `sha256` is of the other two."""

    rollbacks: list[Rollback]
    cleared: bool
    sha256: str = ""

    def seal(self) -> str:
        return files.sha256_value([self.rollbacks, self.cleared])


def write(parent: Path, rollbacks: list[Rollback], *, cleared: bool = False) -> None:
    """Put down that the run goes back as the last of them says.

    Raises:
        ResourceError: no room, or no permission to write.
    """
    history = _History(rollbacks=rollbacks, cleared=cleared)
    sealed = _History(rollbacks=rollbacks, cleared=cleared, sha256=history.seal())
    files.write_json(parent / _FILE, sealed)


def settle(parent: Path) -> list[Rollback]:
    """All rollbacks of a folder of checkpoints, the last of them carried through.

    Raises:
        InputError: the file is damaged.
        ResourceError: no room, or no permission to write.
    """
    path = parent / _FILE
    if not path.exists():
        return []
    history = files.read_json(path, _History)
    if history.sha256 != history.seal():
        raise InputError(f"{path}: changed since it was written. Put it back from a copy, or train into a new folder")
    if not history.cleared:
        for folder in manifest.folders(parent):
            if manifest.step_of(folder) > history.rollbacks[-1].to:
                with files.disk(folder):
                    checkpoint.discard(folder)
        write(parent, history.rollbacks, cleared=True)
    return history.rollbacks
