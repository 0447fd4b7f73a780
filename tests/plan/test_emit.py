"""A plan becomes a recipe that the trainer reads with its own code, and scripts that shells and parsers accept."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from isoflop.count.memory_peak import memory
from isoflop.count.parameters import parameters
from isoflop.errors import InfeasibleError, InputError, UnknownNameError, UsageError
from isoflop.laws import source
from isoflop.plan.answer import answer
from isoflop.plan.emit import emit
from isoflop.plan.emit_jobs import TARGETS, Target, limits
from isoflop.plan.emit_recipe import batched
from isoflop.plan.emit_source import PlanFile, read
from isoflop.plan.payload import payload
from isoflop.plan.question import ask
from isoflop.specs.layout import Layout, Training
from isoflop.specs.plan import Budget
from isoflop.specs.recipe_file import load
from isoflop.tables.named import model
from isoflop.train.team import laid_out
from isoflop.units import parse_devices

DAY = 86_400.0


def written(folder: Path, gpus: str = "64xH100", *, days: float = 30.0, **asked: Any) -> Path:
    """A plan as `isoflop plan --json` leaves it on disk."""
    question = ask(parse_devices(gpus, name="--gpus"), Budget(wall_s=days * DAY), **asked)
    found = payload(answer(question, source.load("besiroglu-2024"), law="besiroglu-2024"))
    path = folder / "plan.json"
    path.write_bytes(msgspec.json.encode({"schema": "isoflop/plan@1", **found}))
    return path


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> PlanFile:
    return read(written(tmp_path_factory.mktemp("plan")))


def yaml_of(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_the_recipe_is_read_by_the_trainers_own_reader_and_says_what_was_planned(
    plan: PlanFile, tmp_path: Path
) -> None:
    for option in plan.options:
        made = emit(plan, to="recipe", option=option.name)
        path = tmp_path / "recipe.toml"
        path.write_text(made.files["recipe.toml"])
        recipe = load(path)
        assert recipe == made.recipe
        assert parameters(recipe.model).total == parameters(option.architecture).total
        assert recipe.n_tokens == pytest.approx(option.n_tokens, rel=1e-3)
        assert recipe.layout is not None
        assert (recipe.layout.devices, recipe.layout.sharding) == (option.layout.devices, option.layout.sharding)


def test_the_recipe_has_the_optimizer_whose_states_the_plan_counted(tmp_path: Path) -> None:
    planned = read(written(tmp_path, training=Training(optimizer="muon")))
    assert planned.options[0].training.optimizer == emit(planned, to="recipe").recipe.optimizer.name == "muon"
    assert "muon" in emit(planned, to="recipe").files["recipe.toml"]


def test_an_optimizer_that_the_trainer_does_not_have_is_refused(tmp_path: Path) -> None:
    planned = read(written(tmp_path, training=Training(optimizer="sgd")))
    with pytest.raises(InfeasibleError, match="planned with sgd, and our trainer has adamw, adamw-8bit, muon"):
        emit(planned, to="recipe")


def test_the_batch_follows_the_published_law_and_divides_among_the_ranks(plan: PlanFile) -> None:
    option = plan.options[0]
    recipe = emit(plan, to="recipe").recipe
    assert recipe.layout is not None
    lies = recipe.layout
    assert recipe.batch_tokens == lies.data * lies.micro_batch * lies.accumulation * lies.sequence
    assert recipe.batch_tokens == pytest.approx(0.58 * option.n_tokens**0.571, rel=0.1)


@pytest.mark.parametrize("batch_tokens", [None, 4e6])
def test_a_recipe_takes_the_steps_that_were_planned(batch_tokens: float | None, tmp_path: Path) -> None:
    planned = msgspec.json.decode(written(tmp_path, "8xH100", days=3.0, batch_tokens=batch_tokens).read_bytes())
    for option in planned["options"]:
        recipe = emit(read(tmp_path / "plan.json"), to="recipe", option=option["name"]).recipe
        assert recipe.batch_tokens == option["batch_tokens"]
        assert msgspec.to_builtins(recipe.layout) == option["layout"]


@pytest.mark.parametrize("n_tokens", [1e6, 1e9, 1e12])
def test_a_rank_keeps_at_least_one_sequence_and_never_more_than_planned(n_tokens: float) -> None:
    planned = Layout(sharding="zero3", recompute="none", devices=16, micro_batch=4, sequence=2048)
    lies = batched(planned, n_tokens=n_tokens)
    assert 1 <= lies.micro_batch <= planned.micro_batch
    assert lies.accumulation == 1 or lies.micro_batch == planned.micro_batch


@pytest.mark.parametrize("n_tokens", [1e6, 1e9, 1e12, 4e13])
def test_interleaved_stages_are_emitted_with_whole_rounds_of_micro_batches(n_tokens: float) -> None:
    planned = Layout(
        sharding="zero1", recompute="selective", devices=96, micro_batch=1, sequence=4096, pipeline=3, virtual_stages=2
    )
    assert batched(planned, n_tokens=n_tokens).accumulation % planned.pipeline == 0


def test_what_is_emitted_still_fits_into_memory(plan: PlanFile) -> None:
    for option in plan.options:
        lies = emit(plan, to="recipe", option=option.name).recipe.layout
        assert lies is not None
        assert memory(option.architecture, lies).total_bytes <= option.memory_capacity_bytes


@pytest.mark.parametrize("gpus", ["1xH100", "8xH100", "64xH100"])
@pytest.mark.parametrize("target", ["torchrun", "slurm"])
def test_shell_scripts_parse_and_start_every_planned_device(gpus: str, target: Target, tmp_path: Path) -> None:
    found = read(written(tmp_path, gpus, days=1.0))
    made = emit(found, to=target, name="it's a $run")
    script = tmp_path / "job"
    script.write_text(made.files[list(made.files)[-1]])
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    text = script.read_text()
    count = found.count
    assert ("torchrun --nnodes=8" in text) == (count == 64)
    assert ("--nproc-per-node=8" in text) == (count > 1)
    if target == "slurm":
        assert f"#SBATCH --nodes={max(1, count // 8)}\n" in text
        lines = text.splitlines()
        assert all(line.startswith("#") for line in lines[: lines.index("set -uo pipefail")])


def test_shellcheck_has_nothing_to_say(plan: PlanFile, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    for target in ("torchrun", "slurm"):
        script = tmp_path / "job.sh"
        script.write_text(emit(plan, to=target).files[{"torchrun": "job.sh", "slurm": "job.sbatch"}[target]])
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_slurm_gives_the_slowest_run_of_the_plan_a_tenth_to_spare(plan: PlanFile) -> None:
    text = emit(plan, to="slurm").files["job.sbatch"]
    time = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("#SBATCH --time="))
    days, _, clock = time.partition("-")
    hours, minutes, _ = (int(part) for part in clock.split(":"))
    seconds = int(days) * DAY + hours * 3600 + minutes * 60
    assert seconds == pytest.approx(1.1 * plan.options[0].wall_s_hi, abs=60)


def test_skypilots_yaml_asks_for_the_planned_devices(plan: PlanFile) -> None:
    job = yaml_of(emit(plan, to="skypilot", name='a "b" c').files["job.yaml"])
    assert (job["name"], job["num_nodes"]) == ('a "b" c', 8)
    assert job["resources"]["accelerators"] == "H100:8"
    assert "isoflop train recipe.toml" in job["run"]


def test_a_layout_that_the_trainer_refuses_is_said_where_it_is_read_and_no_other(
    plan: PlanFile, tmp_path: Path
) -> None:
    piped, flat = plan.options
    assert (piped.layout.pipeline, flat.layout.pipeline) == (2, 1)
    for target in TARGETS:
        made = emit(plan, to=target, option=flat.name)
        assert all("# Planned: 64 devices" in text and "NOT YET" not in text for text in made.files.values())
        assert made.warnings == []
        made = emit(plan, to=target, option=piped.name)
        assert all("# NOT YET" in text and "with pipeline 2" in text for text in made.files.values())
        assert ["pipeline 2" in text for text in made.warnings] == [True]
    alone = emit(read(written(tmp_path, "1xH100", days=1.0)), to="torchrun")
    assert not any("NOT YET" in text or "Planned" in text for text in alone.files.values())
    assert alone.warnings == []
    assert "torchrun --" not in alone.files["job.sh"]


def test_what_is_said_of_a_recipe_is_what_the_trainer_does_with_it(plan: PlanFile) -> None:
    """The same rule stands behind both."""
    piped, flat = (emit(plan, to="recipe", option=option.name).recipe for option in plan.options)
    assert laid_out(flat, plan.count).sharding == "zero1"
    with pytest.raises(UsageError, match="pipeline 2"):
        laid_out(piped, plan.count)
    assert len(limits(piped)) == len(limits(flat)) + 1
    assert flat.layout is not None
    cut = replace(flat, layout=replace(flat.layout, tensor=2))
    assert laid_out(cut, plan.count).tensor == 2
    assert any("more memory than was planned" in line for line in limits(cut))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "plan.json"),
        ("[]", "plan.json"),
        ("{}", "is no plan"),
        ('{"schema": "isoflop/law@1"}', "is no plan"),
        ('{"schema": "isoflop/plan@1", "devices": "8xH100", "law": "x", "options": []}', "without options"),
        ('{"schema": "isoflop/plan@1", "devices": "8xH100", "law": "x", "options": [{"name": "a"}]}', "n_params"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read(path)


def test_wrong_wishes_are_refused(plan: PlanFile, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="compute-optimal"):
        emit(plan, to="recipe", option="compute-optimum")
    with pytest.raises(UsageError, match="whole machines"):
        emit(plan, to="slurm", per_node=7)
    with pytest.raises(UsageError, match="folder"):
        emit(plan, to="slurm", name="../up")
    with pytest.raises(UsageError, match="folder"):
        emit(plan, to="slurm", name="two\nlines")
    amd = read(written(tmp_path, "8xMI300X", days=1.0))
    with pytest.raises(UsageError, match="emit slurm"):
        emit(amd, to="skypilot")


def test_a_model_that_the_trainer_cannot_build_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "8xH100", days=1.0)
    content = json.loads(path.read_text())
    content["options"][0]["architecture"] = msgspec.to_builtins(model("gpt2").architecture)
    path.write_text(json.dumps(content))
    with pytest.raises(InfeasibleError, match="Llama-like decoders"):
        emit(read(path), to="recipe")


def test_a_plan_of_too_few_steps_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "1xH100", days=1.0)
    content = json.loads(path.read_text())
    for option in content["options"]:
        option["n_tokens"] = 50_000.0
    path.write_text(json.dumps(content))
    with pytest.raises(InfeasibleError, match="fewer devices"):
        emit(read(path), to="recipe")
