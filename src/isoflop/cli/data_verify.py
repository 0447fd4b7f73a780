"""`isoflop data verify`: whether shards are, byte for byte, what was written."""

import time
from pathlib import Path
from typing import Any

import click

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options


@click.command("verify")
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_options("data.verify")
def verify_shards(folders: tuple[Path, ...], output: Output) -> None:
    """Read shards and hold every byte against its checksum, e.g. `isoflop data verify shards/stdlib`.

    A run does this by itself before its first step, on the machine of its first process. Say it on others that read
    copies of their own. Ends with exit code 4 at the first damaged, cut off or missing file, which it names. An index
    of its words, where the folder holds one, is read as well.
    """
    from isoflop.data.contamination import index_of
    from isoflop.data.shards import open_shards
    from isoflop.train.cores import cores

    told: list[dict[str, Any]] = []
    for folder in folders:
        start = time.perf_counter()
        shards = open_shards(folder)
        shards.verify(threads=cores().usable)
        if (index := index_of(shards)) is not None:
            index.verify()
        n_bytes = sum((folder / name).stat().st_size for name in shards.names())
        wall_s = time.perf_counter() - start
        told.append({
            "folder": str(folder), "content_sha256": shards.content_sha256, "n_files": len(shards.names()),
            "n_bytes": n_bytes, "index_words": None if index is None else index.header.n, "wall_s": wall_s,
            "bytes_per_s": n_bytes / wall_s,
        })  # fmt: skip

    def render(printer: Printer) -> None:
        for one in told:
            size, rate = units.show(one["n_bytes"], "bytes"), units.show(one["bytes_per_s"], "bytes")
            printer.line(
                f"{one['folder']}: whole, {one['n_files']} files, {size} at {rate}/s, content "
                f"{one['content_sha256'][:12]}"
                + (f"; an index of runs of {one['index_words']} words" if one["index_words"] else "")
            )

    output.show({"shards": told}, render)
