"""Shards are held against their checksums before a run trains on them.

Everything is read once when a run first starts. When it goes on, files whose size, inode and time of change are those
that were seen then are taken for the same: no write leaves the time of change (ctime) as it was. One process that
trains many runs on the same shards reads them once.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from isoflop import files
from isoflop.data.sources import Sources
from isoflop.errors import InputError
from isoflop.train.cores import cores

_FILE = ".shards.json"
_LARGE_BYTES = 2e9
Marks = dict[str, list[int]]
_seen: dict[str, Marks] = {}


def sound(sources: Sources, *, folder: Path, say: Callable[[str], None], should_stop: Callable[[], bool]) -> bool:
    """Whether the shards are as they were written; False where it was asked to stop on the way.

    Args:
        folder: of the run; what was seen is put down there.
        say: told before a reading that takes a while.

    Raises:
        InputError: a file is damaged; names it.
    """
    marks, identity = _marks(sources), sources.content_sha256
    if marks in (_seen.get(identity), _put_down(folder)):
        return True
    n_bytes = sum(size for size, *_ in marks.values())
    if n_bytes > _LARGE_BYTES:
        say(f"{n_bytes / 1e9:.1f} GB of shards are read and held against their checksums, this once")
    for shards in sources.shards.values():
        if not shards.verify(should_stop=should_stop, threads=cores().usable):
            return False
    _seen[identity] = marks
    files.write_json(folder / _FILE, marks)
    return True


def _marks(sources: Sources) -> Marks:
    """Size, inode and time of change by path: the same content may lie in two places."""
    found = {}
    for shards in sources.shards.values():
        for name in shards.names():
            path = (shards.folder / name).resolve()
            status = path.stat()
            found[str(path)] = [status.st_size, status.st_ino, status.st_ctime_ns]
    return found


def _put_down(folder: Path) -> Marks | None:
    try:
        return files.read_json(folder / _FILE, Marks)
    except (InputError, msgspec.MsgspecError):
        return None
