"""What of the machine this process may really use: affinity, the container's quota, the GPUs left visible to it."""

import os
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct

_CGROUP = Path("/sys/fs/cgroup")


class Cores(Struct, frozen=True, kw_only=True):
    """Cores of the machine and of this process.

    Attributes:
        machine: logical processors of the machine.
        allowed: the processors this process may run on, by number; empty where the system does not say.
        quota: processors' worth of time the container grants; None without a limit.
    """

    machine: int
    allowed: tuple[int, ...]
    quota: float | None

    @property
    def usable(self) -> int:
        """Busy single-thread processes that can run at full speed together; at least one."""
        here = len(self.allowed) or self.machine
        return max(1, here if self.quota is None else min(here, int(self.quota)))

    def slices(self, *, workers: int, threads: int) -> list[tuple[int, ...]]:
        """The processors of each worker, empty where it is left to the system.

        Workers are bound only when together they fill the machine: then it saves migrations, while binding fewer
        would put two sweeps on the same processors and leave others idle.
        """
        if workers * threads != len(self.allowed) or self.usable < len(self.allowed):
            return [()] * workers
        return [self.allowed[i * threads : (i + 1) * threads] for i in range(workers)]


def memory_of_machine() -> tuple[float | None, float | None]:
    """Memory of the machine or container and what is available of it, bytes; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        pages = "SC_PHYS_PAGES" in os.sysconf_names
        return (float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if pages else None), None
    kib = {name: float(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    total, available = kib["MemTotal"], kib.get("MemAvailable", kib["MemFree"])
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text())
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return total, available  # no container, or "max": no limit
    return min(total, limit), max(0.0, min(available, limit - used))


class Gpu(Struct, frozen=True, kw_only=True):
    """A GPU as the driver tells of it.

    Attributes:
        name: as `CUDA_VISIBLE_DEVICES` takes it.
    """

    name: str
    memory_bytes: float


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that are visible to this process, by their driver's own tool; torch would take seconds to say."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return []
    query = [tool, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return visible(answer.stdout if answer.returncode == 0 else "", asked=os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(listed: str, *, asked: str | None) -> list[Gpu]:
    """Of the driver's table, what `CUDA_VISIBLE_DEVICES` leaves, in its order; None leaves all.

    Args:
        listed: a line "index, uuid, MiB" per GPU.
    """
    rows = [[word.strip() for word in line.split(",")] for line in listed.splitlines() if line.count(",") == 2]
    known = {index: Gpu(name=index, memory_bytes=float(mib) * 2**20) for index, _, mib in rows if mib.isdecimal()}
    by_uuid = {uuid: index for index, uuid, _ in rows}
    if asked is None:
        return list(known.values())
    found = []
    for word in filter(None, (word.strip() for word in asked.split(","))):
        index = by_uuid.get(word, word)
        if index not in known:
            break  # as CUDA reads it: what follows a name that is none is not seen
        found.append(known[index])
    return found


def cores() -> Cores:
    """Look at this process's own limits."""
    allowed = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    return Cores(machine=os.cpu_count() or 1, allowed=allowed, quota=_quota(_CGROUP))


def _quota(cgroup: Path) -> float | None:
    """The container's processor time per second: `cpu.max` (cgroup 2), or the two files of cgroup 1."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroup / name).read_text() for name in files).split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):
            continue  # no such file, or "max": no limit
        if quota > 0 and period > 0:
            return quota / period
    return None
