"""One sweep at a time in a folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoflop.errors import ResourceError
from isoflop.files import disk
from isoflop.locks import holder, sign, taken

_PARENT, _WORKERS = ".sweep.lock", ".workers.lock"


@contextmanager
def locked(folder: Path, *, patience_s: float = 60.0) -> Iterator[int]:
    """Hold the folder; yields the descriptor of a second lock, for the workers to inherit.

    The first lock is the sweep's own and ends with it. The second lives until the last worker has saved, also when
    the sweep was killed: the next one waits for such orphans, but not for a sweep that lives.

    Raises:
        ResourceError: another sweep is at work here, or the folder cannot be written.
    """
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        parent, workers = (os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644) for name in (_PARENT, _WORKERS))
    try:
        if not taken(parent):
            raise ResourceError(
                f"{folder}: another sweep (process {holder(parent) or 'unknown'}) is at work here. Wait for it, stop "
                "it, or choose another folder of runs"
            )
        with disk(folder):
            sign(parent)
        deadline = time.monotonic() + patience_s
        while not taken(workers):
            if time.monotonic() > deadline:
                raise ResourceError(f"{folder}: workers of a killed sweep are still saving here. Try again in a minute")
            time.sleep(0.1)
        yield workers
    finally:
        os.close(parent)
        os.close(workers)
