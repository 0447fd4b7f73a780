"""Job scripts around a recipe: torchrun, Slurm, SkyPilot. Other engines start the job; ours is what they start."""

import shlex
from math import ceil
from typing import Literal, TypeAlias, get_args

from msgspec import Struct

from isoflop.errors import UsageError
from isoflop.plan.emit_source import Planned
from isoflop.specs.layout import Layout
from isoflop.specs.recipe import Recipe
from isoflop.specs.together import refusal
from isoflop.tables import rows
from isoflop.tables.advice import Launcher

Target: TypeAlias = Literal["torchrun", "slurm", "skypilot", "recipe"]
TARGETS: tuple[Target, ...] = get_args(Target)
RECIPE = "recipe.toml"
FILES: dict[Target, str] = {"torchrun": "job.sh", "slurm": "job.sbatch", "skypilot": "job.yaml", "recipe": RECIPE}
_PORT = 29500
_ELSEWHERE = f"On one device `isoflop train {RECIPE}` trains the same model, if it fits there."
_WHOLE = (
    "NOTE: of a tensor-parallel layout `isoflop train` keeps embedding, head and norms whole on every device, and so "
    "needs more memory than was planned."
)
_SPARE = 1.1  # of a time limit over the plan's slowest: a job that ends a minute early loses its place in the queue


class Job(Struct, frozen=True, kw_only=True):
    """What a job script is written from.

    Attributes:
        device: name of the planned device's row.
        nodes, per_node: how the planned devices are spread over machines.
        header: sentences that stand on top as comments.
    """

    name: str
    device: str
    nodes: int
    per_node: int
    wall_s: float
    header: list[str]


def job(option: Planned, recipe: Recipe, *, name: str, device: str, count: int, per_node: int, plan: str) -> Job:
    """The job of one option.

    Args:
        count: devices as planned and rented.
        per_node: of them in one machine.
        plan: the plan's file, for the header.

    Raises:
        UsageError: the devices do not fill whole machines.
    """
    if per_node < 1 or (count > per_node and count % per_node):
        raise UsageError(f"--per-node {per_node}: {count} devices do not fill whole machines of {per_node}")
    return Job(
        name=name,
        device=device,
        nodes=ceil(count / per_node),
        per_node=min(count, per_node),
        wall_s=_SPARE * option.wall_s_hi,
        header=[f"Option {option.name!r} of {plan}, written by `isoflop plan emit`.", *limits(recipe)],
    )


def limits(recipe: Recipe) -> list[str]:
    """How the recipe was planned to lie on several devices, and what of it our trainer refuses, a line each."""
    layout = recipe.layout
    if layout is None or layout.devices == 1:
        return []
    planned = f"Planned: {describe(layout)}."
    if refused := refusal(recipe, layout):
        return [planned, f"NOT YET: `isoflop train` refuses this on several processes: {refused}.", _ELSEWHERE]
    kept = [_WHOLE] if layout.tensor > 1 else []
    return [planned, *kept, _ELSEWHERE]


def describe(layout: Layout) -> str:
    """A layout in one line."""
    degrees = {
        "tensor": layout.tensor, "pipeline": layout.pipeline, "context": layout.context, "expert": layout.expert,
        "replicas": layout.replicas,
    }  # fmt: skip
    split = [f"{name} {degree}" for name, degree in degrees.items() if degree > 1]
    return ", ".join(
        [
            f"{layout.devices} devices, {layout.sharding} over {layout.data} data-parallel ranks",
            *split,
            f"{layout.micro_batch} x {layout.sequence} tokens a rank, {layout.accumulation} micro-batches a step",
            f"{layout.recompute} recomputation",
        ]
    )


def script(job: Job, target: Target) -> str:
    """The text of the job's file.

    Raises:
        UsageError: SkyPilot has no name for the device.
    """
    match target:
        case "torchrun":
            return _torchrun(job)
        case "slurm":
            return _slurm(job)
        case "skypilot":
            return _skypilot(job)
    raise AssertionError(f"{target} has no script")


def _comments(job: Job) -> str:
    return "".join(f"# {line}\n" for line in job.header)


def _train(job: Job) -> str:
    return f"isoflop train {RECIPE} --name {shlex.quote(job.name)}"


def _launch(job: Job, *, rank: str, address: str) -> str:
    """The line that starts every process of one machine; one device needs no launcher."""
    if job.nodes * job.per_node == 1:
        return _train(job)
    several = (
        f"--nnodes={job.nodes} --node-rank={rank} --master-addr={address} --master-port={_PORT}"
        if job.nodes > 1
        else "--standalone"
    )
    return f"torchrun {several} --nproc-per-node={job.per_node} -m {_train(job)}"


def _torchrun(job: Job) -> str:
    usage = ""
    if job.nodes > 1:
        usage = (
            f"# Run it on each of {job.nodes} machines: NODE_RANK=0..{job.nodes - 1} HEAD=address of machine 0 bash "
            f"{FILES['torchrun']}\n"
            ': "${NODE_RANK:?0 on the first machine}" "${HEAD:?address of the first machine}"\n'
        )
    launch = _launch(job, rank='"$NODE_RANK"', address='"$HEAD"')
    return f'#!/usr/bin/env bash\n{_comments(job)}set -euo pipefail\n{usage}cd "$(dirname "$0")"\nexec {launch}\n'


def _slurm(job: Job) -> str:
    minutes = ceil(job.wall_s / 60)
    days, rest = divmod(minutes, 24 * 60)
    several = job.nodes > 1
    head = 'HEAD="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"\nexport HEAD\n' if several else ""
    launch = _launch(job, rank='"$SLURM_NODEID"', address='"$HEAD"')
    return (
        "#!/usr/bin/env bash\n"
        f"#SBATCH --job-name={shlex.quote(job.name)}\n"
        f"#SBATCH --nodes={job.nodes}\n"
        "#SBATCH --ntasks-per-node=1\n"
        f"#SBATCH --gpus-per-node={job.per_node}\n"
        f"#SBATCH --time={days}-{rest // 60:02d}:{rest % 60:02d}:00\n"
        "#SBATCH --signal=TERM@120\n"
        "#SBATCH --requeue\n"
        f"{_comments(job)}"
        "# Two minutes before the time limit the run is told and saves what it has; it is then queued again.\n"
        f'set -uo pipefail\ncd "$SLURM_SUBMIT_DIR" || exit 2\n{head}'
        f"srun --kill-on-bad-exit=1 bash -c {shlex.quote('exec ' + launch)}\n"
        "code=$?\n"
        f'if [ "$code" -ne 0 ] && grep -q \'"status": "interrupted"\' runs/{shlex.quote(job.name)}/run.json; then\n'
        '  scontrol requeue "$SLURM_JOB_ID"\n'
        "fi\n"
        'exit "$code"\n'
    )


def _skypilot(job: Job) -> str:
    launchers = rows("launchers", Launcher)
    if job.device not in launchers:
        known = ", ".join(sorted(launchers))
        raise UsageError(f"SkyPilot's name for {job.device} is not in the tables (they have {known}): emit slurm")
    rank, address = '"$SKYPILOT_NODE_RANK"', '"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"'
    return (
        f"{_comments(job)}"
        f"name: {_yaml(job.name)}\n"
        f"num_nodes: {job.nodes}\n"
        "resources:\n"
        f"  accelerators: {launchers[job.device].skypilot}:{job.per_node}\n"
        "  use_spot: false\n"
        "workdir: .\n"
        "setup: |\n"
        "  pip install 'isoflop[train]'\n"
        "run: |\n"
        f"  {_launch(job, rank=rank, address=address)}\n"
    )


def _yaml(text: str) -> str:
    """A double-quoted scalar; a run's name is one folder's, without control characters."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
