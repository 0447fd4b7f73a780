"""A process that trains what it is told, one run after the other: `python -m isoflop.train.worker [PROCESSOR ...]`.

Torch is imported once (1.5 s) for all its runs. It reads requests on stdin and writes messages on stdout (see
`protocol`); whatever else is printed goes to stderr. SIGTERM, SIGINT and the end of stdin (the parent's death
included) all mean: save at the next step, say so, end.
"""

import gc
import io
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO

from msgspec import structs

from isoflop.errors import IsoflopError, PreemptedError, ResourceError, StoppedError
from isoflop.train import meter, protocol, store
from isoflop.train.events import Event
from isoflop.train.meter import Accelerator
from isoflop.train.protocol import (
    Copy,
    Ended,
    Gather,
    Matmul,
    Measured,
    Message,
    Ready,
    Rehearse,
    Request,
    Steps,
    Taken,
    Told,
    Train,
)


class Desk:
    """Where requests come in, messages go out, and the wish to stop is kept."""

    def __init__(self, *, requests: IO[bytes], messages: IO[bytes]) -> None:
        self._requests, self._messages = requests, messages
        # SimpleQueue.put is reentrant, so a signal handler may call it in the middle of get.
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._stop = False
        for wish in (signal.SIGTERM, signal.SIGINT):
            signal.signal(wish, self._ask_to_stop)
        threading.Thread(target=self._read, daemon=True).start()

    def _ask_to_stop(self, *_: object) -> None:
        self._stop = True
        self._inbox.put(None)

    def _read(self) -> None:
        for line in self._requests:
            self._inbox.put(protocol.requests.decode(line))
        self._ask_to_stop()

    def should_stop(self) -> bool:
        """The parent is gone or wants an end."""
        return self._stop

    def next(self) -> Request | None:
        """The next request; None to end."""
        request = self._inbox.get()
        return None if self._stop else request

    def say(self, message: Message) -> None:
        """Send one message; without a listener there is nothing left but to save and end."""
        try:
            self._messages.write(protocol.encode(message) + b"\n")
            self._messages.flush()
        except BrokenPipeError:
            self._stop = True


def main() -> None:
    """Serve until there is nothing more to do."""
    # The protocol gets a stdout of its own; a library that prints cannot tear it.
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.argv[1:] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(processor) for processor in sys.argv[1:]})
    # Raw, because a thread that waits inside a buffered reader holds a lock the interpreter needs to end.
    desk = Desk(requests=io.FileIO(0, closefd=False), messages=messages)
    import torch

    desk.say(Ready(torch=str(torch.__version__), cuda=torch.version.cuda, accelerators=_accelerators()))
    while (request := desk.next()) is not None:
        desk.say(_serve(desk, request))


def _accelerators() -> list[Accelerator]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(i) for i in range(count)]
    return [Accelerator(name=device.name, memory_bytes=float(device.total_memory)) for device in found]


def _serve(desk: Desk, request: Request) -> Message:
    """Do one thing; nothing it raises ends the worker but what ends the process."""
    from isoflop.train.rate import measure_gather, measure_steps

    try:
        match request:
            case Train():
                return _train(desk, request)
            case Rehearse():
                return Measured(value=_rehearse(desk, request))
            case Matmul(threads=threads, precision=precision, seconds=seconds, device=device):
                rate = meter.measure_matmul(threads=threads, precision=precision, seconds=seconds, device=device)
                return Measured(value=rate)
            case Copy(threads=threads, seconds=seconds, device=device):
                return Measured(value=meter.measure_bandwidth(threads=threads, seconds=seconds, device=device))
            case Steps(recipe=recipe, seconds=seconds):
                return Measured(value=measure_steps(recipe, seconds=seconds))
            case Gather(meeting=meeting, ranks=ranks, seconds=seconds):
                return Measured(value=measure_gather(Path(meeting), ranks=ranks, seconds=seconds))
    except IsoflopError as error:
        disk = isinstance(error, ResourceError) and isinstance(error.__cause__, OSError)
        return Ended(status="failed", reason=str(error), disk=disk)
    except MemoryError:
        return Ended(status="failed", reason="memory ran out")
    except Exception as error:
        traceback.print_exc()
        return Ended(status="failed", reason=f"{type(error).__name__}: {error}")


def _train(desk: Desk, request: Train) -> Ended:
    """One run, and how it ended."""
    from isoflop.train.loop import train

    desk.say(Taken())
    folder = Path(request.folder)
    # Each run searches all objects for what the last one left: 0.2 s where torch's are among them, 0.01 s where not.
    gc.collect()
    gc.freeze()
    try:
        run = train(
            request.recipe,
            folder=folder,
            on_event=lambda event: desk.say(Told(event=event)),
            should_stop=desk.should_stop,
            peak_flop_per_s=request.peak_flop_per_s,
            patient=True,  # a worker whose parent was killed is still saving here
        )
    except (StoppedError, PreemptedError) as error:
        return Ended(status="interrupted", run=store.read(folder), reason=str(error))
    return Ended(status="diverged" if run.status == "diverged" else "finished", run=run, reason=run.note)


def _rehearse(desk: Desk, request: Rehearse) -> float:
    """Tokens/s of real training, from the first report on; the steps before it warm up caches and kernels."""
    from isoflop.train.loop import train

    reports: list[tuple[float, int]] = []

    def listen(event: Event) -> None:
        if event.kind == "step":
            reports.append((time.perf_counter(), event.n_tokens))

    def enough() -> bool:
        return desk.should_stop() or (len(reports) > 1 and reports[-1][0] - reports[0][0] >= request.seconds)

    endless = structs.replace(request.recipe, n_tokens=request.recipe.batch_tokens * 10**7, evaluations=1)
    with tempfile.TemporaryDirectory(prefix="isoflop-rehearsal-") as folder, suppress(StoppedError, PreemptedError):
        train(endless, folder=Path(folder), on_event=listen, should_stop=enough, peak_flop_per_s=None)
    if len(reports) < 2:
        raise StoppedError("the rehearsal was stopped before it had measured anything")
    (begin, before), (end, after) = reports[0], reports[-1]
    return (after - before) / (end - begin)


if __name__ == "__main__":
    main()
