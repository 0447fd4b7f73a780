"""Worker processes of this machine: pinned to cores or to a GPU each, and never left behind.

Each lives in a session of its own, so Ctrl-C at the keyboard reaches the parent alone; what the parent wants of a
worker it says through its stdin, and closing it (or dying) means "save and end".
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from isoflop.errors import UsageError
from isoflop.train import protocol
from isoflop.train.cores import Gpu, cores, gpus, memory_of_machine
from isoflop.train.environment import worker_environment
from isoflop.train.executors import Asked, Inbox, settings
from isoflop.train.protocol import Ready, Request

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Worker:
    """One worker process.

    Attributes:
        seat: its place in the crew; a replacement takes the same.
        ready: its greeting, once torch is imported.
        memory: name of what its runs take memory from.
    """

    def __init__(
        self,
        seat: int,
        *,
        threads: int,
        inbox: Inbox,
        processors: tuple[int, ...] = (),
        gpu: str | None = None,
        keep: int | None = None,
    ) -> None:
        self.seat = seat
        self.memory = "this machine" if gpu is None else f"GPU {gpu}"
        self.ready: Ready | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "isoflop.train.worker", *map(str, processors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **worker_environment(threads), **({} if gpu is None else {_VISIBLE: gpu})},
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
        )
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def _listen(self, inbox: Inbox) -> None:
        """Pass each message on; None is the last."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    message = protocol.messages.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue  # torn by a kill in the middle of a line
                if isinstance(message, Ready):
                    self.ready = message
                inbox.put((self, message))
        inbox.put((self, None))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, request: Request) -> None:
        """Ask for something. A worker already dead is noticed by its last mail, not here."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(protocol.encode(request) + b"\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Ask it to save and end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self, *, seconds: float) -> bool:
        """Wait for its end; False if it still runs."""
        try:
            self._process.wait(timeout=max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it now, and whatever it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of its pipes and of what it printed; it has ended."""
        self.dismiss()
        self._stderr.close()

    def obituary(self) -> str:
        """How it died, in one sentence, with its last words."""
        code = self._process.wait()
        self._stderr.seek(0)
        words = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        last = f"; its last words: {words[-1]}" if words else ""
        if code >= 0:
            return f"the worker ended with exit code {code}{last}"
        name = signal.Signals(-code).name
        return f"the worker was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}{last}"


class Local:
    """Workers on this machine.

    Attributes:
        room_bytes: of the machine and of each GPU.
    """

    def __init__(
        self,
        *,
        threads: int,
        slices: Sequence[tuple[int, ...]],
        gpus: Sequence[Gpu] = (),
        keep: int | None = None,
    ) -> None:
        """Processors and GPUs are given out by turns.

        Args:
            slices: processors of a worker; none of them: it is not bound.
            threads: of each worker.
            keep: a file descriptor the workers hold open as long as they live, such as a lock's.
        """
        self._threads, self._slices, self._gpus, self._keep = threads, slices, gpus, keep
        available = memory_of_machine()[1]
        self.room_bytes = {f"GPU {gpu.name}": gpu.memory_bytes for gpu in gpus}
        if available is not None:
            self.room_bytes["this machine"] = available

    def hire(self, seat: int, *, inbox: Inbox) -> Worker:
        """A fresh worker for a seat."""
        return Worker(
            seat,
            threads=self._threads,
            inbox=inbox,
            processors=self._slices[seat % len(self._slices)] if self._slices else (),
            gpu=self._gpus[seat % len(self._gpus)].name if self._gpus else None,
            keep=self._keep,
        )

    def close(self) -> None:
        """Nothing is left to do."""


def open(asked: Asked) -> Local:
    """As a sweep asks.

    Raises:
        UsageError: more workers than there is room for on the GPUs, or a setting: there are none.
    """
    settings(asked, known={})
    there = gpus() if asked.gpu else []
    if there and asked.workers > len(there) * asked.per_gpu:
        raise UsageError(
            f"{asked.workers} workers on {len(there)} GPUs: ask for at most {len(there) * asked.per_gpu}, or for more "
            "on each"
        )
    slices = [] if there else cores().slices(workers=asked.workers, threads=asked.threads)
    return Local(threads=asked.threads, slices=slices, gpus=there, keep=asked.keep)
