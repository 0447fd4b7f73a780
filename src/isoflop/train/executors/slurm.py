"""Workers as Slurm jobs through submitit: a job a run, spoken with by files on the storage that all nodes share.

    <runs>/.jobs/<run>/request.json     what the job is to train
                       job.json         its number
                       mail.jsonl       what its worker says
                       stop             a wish: save and end
                       obituary         how its worker died, where it did

A job outlives the sweep that submitted it: one that is started again finds it by its number and reads on. Before its
time is up, Slurm sends a signal; the worker saves, and the job goes back into the queue by itself. A job that is
preempted ends with 75 once its worker has saved, and the sweep submits it again.

Settings: `cluster` ("slurm", or "local" for processes of this machine), `time` of a job, `gpus` of a node for it
(unsaid, one where the runs may take it and `sinfo` tells of any there), and Slurm's own `partition`, `account`, `qos`,
`constraint`, `gres`.
"""

import os
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from msgspec import Struct

from isoflop import files, units
from isoflop.errors import PreemptedError, UsageError
from isoflop.train import protocol
from isoflop.train.cores import gpus
from isoflop.train.executors import Asked, Inbox, settings
from isoflop.train.executors.local import Worker
from isoflop.train.packing import needs_bytes
from isoflop.train.protocol import Ended, Ready, Request, Train

NEEDS, EXTRA = "submitit", "slurm"

JOBS = ".jobs"
_REQUEST, _JOB, _MAIL, _STOP, _OBITUARY = "request.json", "job.json", "mail.jsonl", "stop", "obituary"
_POLL_S = 0.25
_SAVING_S = 60.0  # of Slurm's warning, for the step in hand and the checkpoint
_SLURM = ("partition", "account", "qos", "constraint", "gres")


class Submitted(Struct, frozen=True, kw_only=True):
    """The job of a run, as `job.json` tells it."""

    job: str
    cluster: str


class Pilot:
    """What a job does: keep one worker process, give it its run, write down what it says.

    submitit calls `checkpoint` when Slurm warns that the job's time is up, and puts what that returns into the queue.
    """

    def __init__(self, box: Path, *, threads: int) -> None:
        self._box, self._threads = box, threads

    def __call__(self) -> None:
        """Train the run of the box."""
        inbox: Inbox = SimpleQueue()
        self._worker = Worker(0, threads=self._threads, inbox=inbox)
        self._worker.send(protocol.requests.decode((self._box / _REQUEST).read_bytes()))
        threading.Thread(target=self._heed, daemon=True).start()
        ended: Ended | None = None
        with (self._box / _MAIL).open("ab", buffering=0) as mail:
            while (message := inbox.get()[1]) is not None:
                mail.write(protocol.encode(message) + b"\n")
                if isinstance(message, Ended):
                    ended = message
                    self._worker.dismiss()
        if ended is None:
            files.write_atomic(self._box / _OBITUARY, self._worker.obituary().encode())
        elif ended.status == "interrupted":
            raise SystemExit(PreemptedError.exit_code)

    def _heed(self) -> None:
        """Pass the sweep's wish on."""
        while not (self._box / _STOP).exists():
            time.sleep(_POLL_S)
        self._worker.dismiss()

    def checkpoint(self) -> Any:
        """Save; the same again is what the queue gets."""
        self._worker.dismiss()
        if not self._worker.wait(seconds=_SAVING_S):
            self._worker.kill()
        return import_module("submitit").helpers.DelayedSubmission(Pilot(self._box, threads=self._threads))


class Job:
    """A seat whose runs are jobs, one after the other."""

    def __init__(self, seat: int, queue: "Queue", *, inbox: Inbox) -> None:
        self.seat, self.memory = seat, ""
        self.ready: Ready | None = None
        self._queue, self._inbox = queue, inbox
        self._box = Path()
        self._job: Any = None
        self._reader: threading.Thread | None = None

    def send(self, request: Request) -> None:
        """Submit a run, unless its job is in the queue or at work since an earlier sweep.

        Raises:
            UsageError: something else is asked for.
        """
        if not isinstance(request, Train):
            raise UsageError("a Slurm job trains a run; measure speeds on a node, with the local executor")
        self._box, self._job = self._queue.job(request)
        self._reader = threading.Thread(target=self._read, args=(self._job,), daemon=True)
        self._reader.start()

    def _read(self, job: Any) -> None:
        """Pass the mail of one job on; None where it ends without the run's end."""
        offset, over = 0, False
        while True:
            lines = self._lines(offset)
            for line in lines:
                offset += len(line)
                message = protocol.messages.decode(line)
                if isinstance(message, Ready):
                    self.ready = message
                if isinstance(message, Ended) and message.status != "interrupted":
                    self._queue.settle(job)
                    self._inbox.put((self, message))
                    return
                self._inbox.put((self, message))
            if over and not lines:
                self._inbox.put((self, None))
                return
            over = not self._queue.alive(job)
            time.sleep(_POLL_S)

    def _lines(self, offset: int) -> list[bytes]:
        """Whole lines of the mail from there on."""
        try:
            with (self._box / _MAIL).open("rb") as mail:
                mail.seek(offset)
                return [line for line in mail if line.endswith(b"\n")]
        except FileNotFoundError:
            return []

    def dismiss(self) -> None:
        """Ask its job to save and end, or take it out of the queue."""
        if self._reader is not None and self._reader.is_alive():
            (self._box / _STOP).touch()
            if not self._lines(0):
                self.kill()

    def wait(self, *, seconds: float) -> bool:
        """Wait for the end of its job; False if it still runs."""
        if self._reader is not None:
            self._reader.join(timeout=max(seconds, 0.0))
        return self._reader is None or not self._reader.is_alive()

    def kill(self) -> None:
        """Cancel its job."""
        if self._job is not None:
            self._job.cancel(check=False)

    def close(self) -> None:
        """Nothing is left to do."""

    def obituary(self) -> str:
        """How its job ended."""
        with suppress(FileNotFoundError):
            return (self._box / _OBITUARY).read_text()
        return f"job {self._job.job_id} ended without a word; see {self._job.paths.stderr}"


class Queue:
    """The jobs of one sweep."""

    def __init__(self, asked: Asked, said: dict[str, str], *, gpus: int) -> None:
        submitit = import_module("submitit")
        self.room_bytes: dict[str, float] = {}
        self._gpus = gpus
        self._asked, self._cluster, self._home = asked, said["cluster"], asked.runs_dir.resolve() / JOBS
        self._found = submitit.LocalJob if self._cluster == "local" else submitit.SlurmJob
        self._executor = submitit.AutoExecutor(folder=self._home / "log", cluster=self._cluster)
        slurm = {f"slurm_{name}": said[name] for name in _SLURM if said[name]}
        self._executor.update_parameters(
            timeout_min=max(1, round(units.parse(said["time"], "s", name="time") / 60)),
            cpus_per_task=asked.threads,
            **({"gpus_per_node": gpus} if gpus else {}),
            slurm_signal_delay_s=round(2 * _SAVING_S),
            **slurm,
        )

    def hire(self, seat: int, *, inbox: Inbox) -> Job:
        """A seat; its jobs come with its runs."""
        return Job(seat, self, inbox=inbox)

    def close(self) -> None:
        """Jobs outlive the sweep."""

    def job(self, request: Train) -> tuple[Path, Any]:
        """The box and the job of a run: the one that is there, else a new one."""
        box = self._home / Path(request.folder).name
        if (box / _JOB).exists():
            known = files.read_json(box / _JOB, Submitted)
            job = self._found(self._home / "log", known.job)
            if known.cluster == self._cluster and self.alive(job):
                return box, job
        box.mkdir(parents=True, exist_ok=True)
        for old in (_MAIL, _STOP, _OBITUARY, _JOB):
            (box / old).unlink(missing_ok=True)
        files.write_atomic(box / _REQUEST, protocol.encode(request))
        kind = "cuda" if self._gpus else "cpu"
        self._executor.update_parameters(
            mem_gb=max(1, -(-needs_bytes(request.recipe, kind=kind) // 1e9)), name=box.name
        )
        job = self._executor.submit(Pilot(box, threads=self._asked.threads))
        files.write_json(box / _JOB, Submitted(job=job.job_id, cluster=self._cluster))
        return box, job

    def settle(self, job: Any) -> None:
        """The job is about to end; of one that is our own child, its process is waited for."""
        if self._cluster == "local" and job._process is not None:
            job._process.wait()

    def alive(self, job: Any) -> bool:
        """Whether it waits in the queue or runs."""
        if self._cluster != "local" or job._process is not None:
            return not job.done()
        try:  # submitit knows the processes of its own children alone
            os.kill(int(job.job_id), 0)
        except (OSError, ValueError):
            return False
        return True


def open(asked: Asked) -> Queue:
    """A queue for the runs of a sweep.

    Raises:
        UsageError: an unknown setting, `gpus` is no number, or this is no Slurm cluster.
    """
    usual = {"cluster": "slurm", "time": "1 day", "gpus": "", **dict.fromkeys(_SLURM, "")}
    said = settings(asked, known=usual)
    if said["gpus"] and not said["gpus"].isdecimal():
        raise UsageError(f"executor slurm: gpus is {said['gpus']!r}; give the GPUs of a job, such as 1")
    try:
        return Queue(asked, said, gpus=int(said["gpus"]) if said["gpus"] else int(asked.gpu and _has_gpus(said)))
    except RuntimeError as error:
        raise UsageError(f"executor slurm: {error}. Start it on a node that has Slurm's commands") from error


def _has_gpus(said: dict[str, str]) -> bool:
    """Whether a job has to ask for one of the GPUs there: Slurm shows it no other, and refuses where there are none."""
    if said["cluster"] == "local":
        return bool(gpus())
    if said["gres"] or shutil.which("sinfo") is None:  # asked for already, or no Slurm at all, which is said elsewhere
        return False
    partition = ["--partition", said["partition"]] if said["partition"] else []
    told = subprocess.run(
        ["sinfo", "--noheader", "--format=%G", *partition], capture_output=True, text=True, check=False
    )
    return "gpu" in told.stdout
