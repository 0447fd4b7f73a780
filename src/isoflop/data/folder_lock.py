"""A folder with one writer at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoflop.errors import ResourceError
from isoflop.files import disk
from isoflop.locks import taken


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, made if missing, which the kernel drops however its holder ends.

    Raises:
        ResourceError: another process is writing here, or the folder cannot be made.
    """
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        if not taken(handle):
            raise ResourceError(f"{folder}: another process is writing here. Wait for it, or choose another folder")
        yield
    finally:
        os.close(handle)
