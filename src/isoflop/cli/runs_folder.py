"""The option that all of `isoflop runs` shares."""

from pathlib import Path

import click

FOLDER = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of runs; looked through three levels down.",
)
