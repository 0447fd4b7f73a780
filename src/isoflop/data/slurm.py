"""A Slurm script that takes a recipe through its phases: started by hand it queues them, queued it does its part."""

import re
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from msgspec import Struct

from isoflop.data.phases import Phase
from isoflop.errors import UsageError

FILE = "data.sbatch"


class Wish(Struct, frozen=True, kw_only=True):
    """What is asked of the cluster; what is None is left to its defaults.

    Attributes:
        members: of each phase that many processes do.
        cpus: processors of a member.
        wall_s: time limit of a member.
    """

    members: int
    partition: str | None = None
    cpus: int | None = None
    wall_s: float | None = None


def script(phases: Sequence[Phase], recipe: Path, out: Path, wish: Wish) -> str:
    """The text of the script.

    Args:
        recipe, out: as every machine finds them; made absolute here.

    Raises:
        UsageError: a partition or path that no line of a script can hold.
    """
    places = [str(recipe.resolve()), str(out.resolve())]
    for each in (*places, wish.partition or ""):
        if not each.isprintable():
            raise UsageError(f"{each!r}: has signs that a script's line cannot hold; choose another name")
    if wish.partition is not None and (not wish.partition or " " in wish.partition):
        raise UsageError(f"--partition {wish.partition!r}: a name of `sinfo`, or several with commas")
    work = f"isoflop data run {_quoted(places[0])} --out {_quoted(places[1])}"
    return (
        "#!/usr/bin/env bash\n"
        f"{_header(wish)}"
        f"{_comments(phases, places, wish)}"
        "set -euo pipefail\n"
        "\n"
        'if [ "${1:-}" = member ]; then\n'
        f'    exec {work} --workers "${{SLURM_CPUS_ON_NODE:-1}}" \\\n'
        f'        --phase "$2/{len(phases)}" --part "${{SLURM_ARRAY_TASK_ID:?}}/$3"\n'
        "fi\n"
        'if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then\n'
        f'    echo "it queues its arrays itself; start it with: bash {FILE}" >&2\n'
        "    exit 2\n"
        "fi\n"
        "\n"
        'previous=""\n'
        "queue() { # phase, members, options of sbatch\n"
        "    local phase=$1 members=$2\n"
        "    shift 2\n"
        '    previous=$(sbatch --parsable --array="1-$members" \\\n'
        '        ${previous:+"--dependency=afterok:$previous"} --kill-on-invalid-dep=yes \\\n'
        '        "$@" "$0" member "$phase" "$members")\n'
        "    previous=${previous%%;*}\n"
        '    echo "phase $phase: job $previous, $members members"\n'
        "}\n"
        "\n"
        f"{_queued(phases, wish.members)}"
    )


def _quoted(text: str) -> str:
    """A word of the script; shlex would use single quotes, in which shellcheck takes a $ for a mistake."""
    return '"' + re.sub(r'([\\$`"])', r"\\\1", text) + '"'


def _header(wish: Wish) -> str:
    lines = ["--job-name=isoflop-data", "--nodes=1", "--ntasks=1"]
    if wish.partition is not None:
        lines.append(f"--partition={wish.partition}")
    if wish.cpus is not None:
        lines.append(f"--cpus-per-task={wish.cpus}")
    if wish.wall_s is not None:
        minutes = ceil(wish.wall_s / 60)
        lines.append(f"--time={minutes // 1440}-{minutes % 1440 // 60:02d}:{minutes % 60:02d}:00")
    lines += ["--output=%x-%j.out", "--open-mode=append", "--requeue"]
    return "".join(f"#SBATCH {line}\n" for line in lines)


def _comments(phases: Sequence[Phase], places: Sequence[str], wish: Wish) -> str:
    lines = [
        f"{places[0]} into {places[1]} by {wish.members} members, written by `isoflop data emit`.",
        f"Start it where sbatch is: bash {FILE}",
        "Options of sbatch may follow, e.g. --account=lab --mem=64G. Every machine must see both places and this",
        "shell's isoflop. A phase begins when the one before has ended well, in as many members at a time as there is",
        "room for. A member that is requeued goes on from its finished shards; where one fails, what waits for it is",
        "taken from the queue, and the same command goes on.",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _queued(phases: Sequence[Phase], members: int) -> str:
    return "".join(
        f'queue {number} {members if each.members else 1} "$@" # {each.name}\n' for number, each in enumerate(phases, 1)
    )
