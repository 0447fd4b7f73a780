"""What this machine has: Python, parts, devices, cores, memory, disk, folders. Torch is asked, never imported here."""

import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

import isoflop
from isoflop import stamp, tables
from isoflop.errors import IsoflopError, UnknownNameError
from isoflop.specs.cluster import Device
from isoflop.train.cores import Cores, cores, memory_of_machine
from isoflop.train.meter import Machine
from isoflop.train.survey import measure_machine

# part -> (packages, what it is for); the part is the name in brackets of `pip install 'isoflop[part]'`.
_PARTS = {
    "data": (("pyarrow", "rustbpe", "tiktoken", "zstandard"), "text to token shards"),
    "train": (("torch", "safetensors"), "training the ladder and the model"),
    "report": (("altair", "vl-convert-python"), "figures and the page"),
}
# The clock has fallen as far as it does long before, and the doctor shall not fill the memory of a large server.
_MOST_PROCESSES = 16
_LEAST_DISK_BYTES = 1e9
_ALLOCATOR = "glibc; workers are started with settings that keep freed memory (1.1 to 1.4 times the speed)"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Part(Struct, frozen=True, kw_only=True):
    """One optional part: what is installed of it, and the command that adds the rest ("" when complete)."""

    name: str
    purpose: str
    packages: dict[str, str | None]
    install: str


class Known(Struct, frozen=True, kw_only=True):
    """One accelerator as torch names it, and the row of `tables/devices.toml` that it is; None where there is none."""

    name: str
    memory_bytes: float
    row: str | None


class Folder(Struct, frozen=True, kw_only=True):
    """A folder isoflop writes to."""

    purpose: str
    path: str
    writable: bool
    free_bytes: float


class Examination(Struct, frozen=True, kw_only=True):
    """Everything the doctor looks at.

    Attributes:
        git: commit of isoflop's checkout; None for an installed copy.
        memory_bytes: of the machine, or of the container where it has less.
        available_memory_bytes: what can be had now.
        torch: its version; None where it is missing.
        devices: the accelerators; empty on a CPU.
        machine: the measured rates; None where torch is missing or does not start.
        allocator: the C library's, and whether workers can be given the settings that speed up CPU training.
        chromium: path of a browser for looking at pages; not needed to make them.
        advice: what would be better.
        broken: what does not work and must be mended.
    """

    python: str
    executable: str
    isoflop: str
    git: str | None
    system: str
    processor: str
    cores: Cores
    memory_bytes: float | None
    available_memory_bytes: float | None
    torch: str | None
    devices: list[Known]
    parts: list[Part]
    folders: list[Folder]
    machine: Machine | None
    allocator: str
    chromium: str | None
    advice: list[str]
    broken: list[str]


def examine(*, runs_dir: Path) -> Examination:
    """Look at everything and measure, about 5 s; nothing found wrong raises, it is listed in `broken`.

    Args:
        runs_dir: where runs would be written; it is not created.
    """
    origin, seen = stamp.make(), cores()
    advice: list[str] = []
    broken: list[str] = []
    parts = [_part(name) for name in _PARTS]
    torch = _version("torch")
    machine = _measure(broken) if torch else None
    devices = (
        [Known(name=a.name, memory_bytes=a.memory_bytes, row=_row(a.name)) for a in machine.accelerators]
        if machine
        else []
    )
    folders = [_folder("runs", runs_dir), _folder("temporary files", Path(tempfile.gettempdir()))]
    for folder in folders:
        if not folder.writable:
            broken.append(f"{folder.path}: cannot write {folder.purpose} here; choose another folder")
        elif folder.free_bytes < _LEAST_DISK_BYTES:
            broken.append(f"{folder.path}: {folder.free_bytes / 1e6:.0f} MB free for {folder.purpose}; free some space")
    memory, available = memory_of_machine()
    advice += [f"{part.name} ({part.purpose}) is not complete: {part.install}" for part in parts if part.install]
    advice += _advice(seen, machine, available)
    return Examination(
        python=platform.python_version(),
        executable=sys.executable,
        isoflop=isoflop.__version__,
        git=origin.git,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=origin.machine.partition(";")[0],
        cores=seen,
        memory_bytes=memory,
        available_memory_bytes=available,
        torch=torch,
        devices=devices,
        parts=parts,
        folders=folders,
        machine=machine,
        allocator=_ALLOCATOR if platform.libc_ver()[0] == "glibc" else "not glibc: no settings for it",
        chromium=next(filter(None, map(shutil.which, _CHROMIUM)), None),
        advice=advice,
        broken=broken,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _part(name: str) -> Part:
    packages, purpose = _PARTS[name]
    found = {package: _version(package) for package in packages}
    install = "" if all(found.values()) else f"pip install 'isoflop[{name}]'"
    return Part(name=name, purpose=purpose, packages=found, install=install)


def _measure(broken: list[str]) -> Machine | None:
    try:
        return measure_machine(processes=min(cores().usable, _MOST_PROCESSES))
    except IsoflopError as error:
        broken.append(f"torch is installed, but measuring with it failed: {error}. Reinstalling torch may help")
        return None


def _row(name: str) -> str | None:
    """The row of the table of devices that has exactly this name; a near miss is not taken."""
    try:
        return tables.find("devices", Device, name).name
    except UnknownNameError:
        return None


def _folder(purpose: str, path: Path) -> Folder:
    """Whether it, or the nearest folder above that exists, can be written, found by writing."""
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"isoflop")
        writable = True
    except OSError:
        writable = False
    return Folder(purpose=purpose, path=str(path), writable=writable, free_bytes=float(shutil.disk_usage(there).free))


def _advice(seen: Cores, machine: Machine | None, available: float | None) -> list[str]:
    said = []
    if seen.usable < seen.machine:
        why = "the container's quota" if seen.quota is not None else "its affinity"
        said.append(f"{seen.machine} processors, but {why} leaves {seen.usable}; isoflop counts with {seen.usable}")
    if available is not None and available < 2e9:
        said.append(f"{available / 1e9:.1f} GB of memory are available; a worker needs about 0.5 GB, start few")
    if machine and not machine.accelerators and shutil.which("nvidia-smi"):
        said.append(f"there is an NVIDIA driver, but torch {machine.torch} sees no GPU: install a CUDA build of torch")
    if machine and not machine.accelerators and platform.libc_ver()[0] != "glibc":
        said.append("on glibc, allocator settings speed up CPU training 1.1 to 1.4 times; here is another C library")
    return said
