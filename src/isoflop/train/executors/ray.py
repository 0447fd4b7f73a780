"""Workers on a Ray cluster: an actor each, which keeps one worker process on its node and passes its mail on.

The process is the same as on one machine, born in its own environment, so its digits are too. An actor that is killed
takes its mail along: its run goes on from its checkpoint on another one, once the process left behind has saved and let
go of the run's folder. Run folders must lie where all nodes see them.

Settings: `address` of a cluster, as `ray.init` takes it ("auto" for the one this node is part of, which $RAY_ADDRESS
means too); without one, a cluster of this machine lives as long as the sweep. `gpus` of each worker, a share for small
models; unsaid, one where the cluster has any and the runs may take it.
"""

import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from isoflop.errors import UsageError
from isoflop.train import protocol
from isoflop.train.executors import Asked, Inbox, settings
from isoflop.train.executors.local import Worker
from isoflop.train.protocol import Ready, Request

NEEDS, EXTRA = "ray", "ray"

_STORE_BYTES = 80 * 2**20  # of a cluster of our own: nothing but lines of text goes through it
_LAST_WORDS_S = 5.0


class Outpost:
    """The actor: one worker process on its node. Three of its methods may run at once."""

    def __init__(self, seat: int, *, threads: int) -> None:
        self._inbox: Inbox = queue.SimpleQueue()
        self._worker = Worker(seat, threads=threads, inbox=self._inbox)

    def listen(self) -> Iterator[bytes]:
        """Each message of the process, until it is gone."""
        while (message := self._inbox.get()[1]) is not None:
            yield protocol.encode(message)

    def send(self, request: bytes) -> None:
        """Pass a request on."""
        self._worker.send(protocol.requests.decode(request))

    def dismiss(self) -> None:
        """Ask the process to save and end."""
        self._worker.dismiss()

    def obituary(self) -> str:
        """How the process died."""
        return self._worker.obituary()

    def kill(self) -> None:
        """End the process now."""
        self._worker.kill()


class Remote:
    """An actor seen from the sweep."""

    def __init__(self, seat: int, actor: Any, *, inbox: Inbox) -> None:
        self.seat, self.memory = seat, ""
        self.ready: Ready | None = None
        self._actor, self._end = actor, ""
        self._listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()

    def _listen(self, inbox: Inbox) -> None:
        """Pass each message on; None is the last."""
        import ray

        try:
            for reference in self._actor.listen.options(num_returns="streaming").remote():
                message = protocol.messages.decode(ray.get(reference))
                if isinstance(message, Ready):
                    self.ready = message
                inbox.put((self, message))
            self._end = ray.get(self._actor.obituary.remote(), timeout=_LAST_WORDS_S)
        except ray.exceptions.RayError as error:
            self._end = self._end or f"the Ray actor is gone: {str(error).splitlines()[0]}"
        inbox.put((self, None))

    def send(self, request: Request) -> None:
        """Ask for something."""
        self._actor.send.remote(protocol.encode(request))

    def dismiss(self) -> None:
        """Ask it to save and end."""
        self._actor.dismiss.remote()

    def wait(self, *, seconds: float) -> bool:
        """Wait for its end; False if it still runs."""
        self._listener.join(timeout=max(seconds, 0.0))
        return not self._listener.is_alive()

    def kill(self) -> None:
        """End it now, and its process."""
        import ray

        with suppress(ray.exceptions.RayError):
            ray.get(self._actor.kill.remote(), timeout=_LAST_WORDS_S)

    def close(self) -> None:
        """Give its processors back to the cluster."""
        import ray

        ray.kill(self._actor)

    def obituary(self) -> str:
        """How it died."""
        return self._end


class Cluster:
    """Actors of one Ray cluster, which places them by processors, GPUs and memory."""

    def __init__(self, asked: Asked, *, gpus: float, memory_bytes: float, ours: bool) -> None:
        """`ours`: the cluster was started for this sweep and ends with it."""
        import ray

        self.room_bytes: dict[str, float] = {}
        self._threads, self._ours = asked.threads, ours
        self._actors = ray.remote(Outpost).options(
            num_cpus=asked.threads, num_gpus=gpus, memory=int(memory_bytes), max_concurrency=3
        )

    def hire(self, seat: int, *, inbox: Inbox) -> Remote:
        """A fresh actor, begun once the cluster has room for it."""
        return Remote(seat, self._actors.remote(seat, threads=self._threads), inbox=inbox)

    def close(self) -> None:
        """Leave the cluster, and end it where it is ours."""
        import ray

        if self._ours:
            ray.shutdown()


def open(asked: Asked) -> Cluster:
    """Join the cluster, or start one of this machine.

    Raises:
        UsageError: an unknown setting, `gpus` is no number, or this machine has fewer of them.
    """
    said = settings(asked, known={"address": "", "gpus": ""})
    wanted = _gpus(said["gpus"]) if said["gpus"] else None
    # Read when Ray is imported: nobody is told that this sweep was run.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ours = not ray.is_initialized()
    address = said["address"] or os.environ.get("RAY_ADDRESS")
    if ours:
        own: dict[str, Any] = {
            "num_cpus": asked.workers * asked.threads,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
        with _signals_kept():
            ray.init(
                address=address or "local", log_to_driver=False, configure_logging=False, **({} if address else own)
            )
    there: dict[str, float] = import_module("ray").cluster_resources()  # Ray leaves this one without types
    gpus = wanted if wanted is not None else min(there.get("GPU", 0.0), float(asked.gpu)) / asked.per_gpu
    needs = float(asked.needs_bytes or 0.0)
    if ours and not address:  # it will not grow: an actor that no node can hold would be waited for without end
        if gpus > there.get("GPU", 0.0):
            ray.shutdown()
            raise UsageError(f"executor ray: {gpus:g} GPUs a worker, and this machine has {there.get('GPU', 0.0):g}")
        needs = min(needs, there.get("memory", needs))  # a run alone always fits
    return Cluster(asked, gpus=gpus, memory_bytes=needs, ours=ours)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; it is ours, and means that all shall save."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in ours.items():
            signal.signal(number, handler)


def _gpus(text: str) -> float:
    """GPUs of a worker."""
    with suppress(ValueError):
        if 0 <= (gpus := float(text)) < float("inf"):
            return gpus
    raise UsageError(f"executor ray: gpus is {text!r}; give the GPUs of a worker, such as 1 or 0.5")
