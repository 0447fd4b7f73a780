"""Where a result came from: everything isoflop writes carries a `Stamp`."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

import isoflop

_PACKAGES = ("numpy", "torch", "rustbpe", "tiktoken", "pyarrow", "altair", "safetensors")


class Stamp(Struct, frozen=True, kw_only=True):
    """Origin of one written result.

    Attributes:
        isoflop: version of this package.
        git: commit of the checkout isoflop runs from, with `+` if it had changes; None outside a checkout.
        argv: the command line.
        packages: versions of what computed it.
        machine: processor, system and Python.
        inputs: sha256 of each input, by name.
        time: when, in UTC.
    """

    isoflop: str
    git: str | None
    argv: list[str]
    packages: dict[str, str]
    machine: str
    inputs: dict[str, str]
    time: str


def make(inputs: Mapping[str, str] | None = None) -> Stamp:
    """The stamp of a result made now from `inputs` (name -> sha256)."""
    return Stamp(
        isoflop=isoflop.__version__,
        git=_git(),
        argv=[Path(sys.argv[0]).name, *sys.argv[1:]],
        packages=_packages(),
        machine=f"{_processor()}; {platform.system()} {platform.machine()}; Python {platform.python_version()}",
        inputs=dict(inputs or {}),
        time=now(),
    )


def now() -> str:
    """The time in UTC, to the second, as stamps and forecasts write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _git() -> str | None:
    """Commit of isoflop's own checkout; an installed copy has none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "-C", here, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run(["git", "-C", here, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout else "") if head.returncode == 0 else None
