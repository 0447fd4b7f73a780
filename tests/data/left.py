"""What a run of the pipeline leaves."""

from pathlib import Path

from isoflop.files import sha256_file


def hashes(out: Path) -> dict[str, str]:
    """sha256 of every file, but for those that say who made it and when."""
    return {
        path.relative_to(out).as_posix(): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in {"stamp.json", "times.json", ".lock"}
    }
