"""Locks on open files that the kernel drops when their holders are gone, however they went."""

import fcntl
import os


def taken(handle: int, *, shared: bool = False) -> bool:
    """Take the lock of this open file; False where another process has it.

    Args:
        shared: with others that share it.

    Raises:
        OSError: the file system has no such locks.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sign(handle: int) -> None:
    """Write into the file of a lock whose it is."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def holder(handle: int) -> str:
    """The number of the process that signed last; "" where none did."""
    return os.pread(handle, 32, 0).decode(errors="replace").strip()
