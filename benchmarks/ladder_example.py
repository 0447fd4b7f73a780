"""Put a finished ladder among the examples: its runs, its forecast and its page, without text or paths of the machine.

    python benchmarks/ladder_example.py runs/ladder examples/ladders/my-ladder

Written are `ladder.json`, `rates.json`, `runs.jsonl`, `forecast.json` and the page `report.html` as they are, but for
paths in stamped command lines and on the page, of which the last name stays. Refused: a ladder without a measured
kept-out run or a page, one whose forecast was written when that run was there already, and one with a path left
anywhere.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from isoflop.errors import InputError, IsoflopError
from isoflop.files import read_json, read_lines, write_atomic
from isoflop.specs.run import Run
from isoflop.train.ladder import FORECAST, Forecast
from isoflop.train.ladder_trunks import LADDER, RATES

RUNS, PAGE = "runs.jsonl", "report.html"
_A_PATH = re.compile(r"(?<![\w./:<])(?:~|\.\.|/(?:home|tmp|root|work|mnt|data|scratch|Users))(?:/[\w.-]+)+")


def main() -> None:
    """Copy what is needed, look it through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", type=Path, help="folder of `isoflop ladder`")
    parser.add_argument("to", type=Path)
    parser.add_argument("--no-page", action="store_true", help="1.5 MB less")
    asked = parser.parse_args()
    place = asked.ladder / "ladder"
    _proved(place)
    for name in (LADDER, RATES, FORECAST, RUNS):
        if (place / name).exists():
            lines = [json.dumps(_bare(json.loads(line)), separators=(",", ":")) for line in _values(place / name)]
            write_atomic(asked.to / name, "\n".join([*lines, ""]))
    if not asked.no_page:
        _page(asked.ladder / PAGE, asked.to)
    for file in sorted(asked.to.iterdir()):
        if file.name != "README.md" and (path := _A_PATH.search(file.read_text())):
            raise InputError(f"{file}: holds a path of this machine, {path[0]!r}")
        print(f"{file}: {file.stat().st_size:,} bytes")


def _proved(place: Path) -> None:
    said = read_json(place / FORECAST, Forecast)
    kept_out = [run.id for run in read_lines(place / RUNS, Run) if run.role == "held_out" and run.loss_nats]
    if said.measured_nats is None or said.run_id not in kept_out:
        raise InputError(f"{place}: its kept-out run is not measured yet")
    if not said.blind:
        raise InputError(f"{place}: its forecast was written when the kept-out run was there already")


def _values(file: Path) -> list[str]:
    text = file.read_text()
    return text.splitlines() if file.suffix == ".jsonl" else [json.dumps(json.loads(text))]


def _bare(value: Any) -> Any:
    """The same with nothing but the last names of paths in stamped command lines."""
    if isinstance(value, dict):
        return {
            name: [word.rsplit("/", 1)[-1] for word in item] if name == "argv" else _bare(item)
            for name, item in value.items()
        }
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _page(report: Path, to: Path) -> None:
    if not report.exists():
        raise InputError(f"{report}: no page here; name the folder that it is in, or say --no-page")
    write_atomic(to / PAGE, _A_PATH.sub(lambda path: path[0].rsplit("/", 1)[-1], report.read_text()))


if __name__ == "__main__":
    try:
        main()
    except IsoflopError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
