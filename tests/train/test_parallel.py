"""One recipe on one, two and four processes is one run: the same losses, whatever of the model each process holds."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from tests.train.nano import BATCH, CONTEXT, MODEL, nano
from tests.train.parallel_worker import RESULTS, Case, losses

from isoflop import files
from isoflop.errors import UsageError
from isoflop.model.build import build
from isoflop.specs.architecture import Encoder, EncoderDecoder, Routing
from isoflop.specs.layout import Layout, Sharding
from isoflop.specs.objective import Objective
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.saving import Saving
from isoflop.train import journal, record, store
from isoflop.train.parallel import own_number
from isoflop.train.sharded import owners
from isoflop.train.team import Place, alone, laid_out, place

ROOT = Path(__file__).parents[2]
STEPS = 8
NEAR = 1e-5  # nats
APART = 1e-4
ROUNDED = 1e-3
_LONG_S = 600  # until something hangs; a busy machine may stand still for a minute


def layout(sharding: Sharding, *, replicas: int = 1, **others: int) -> Layout:
    """Planned for 4 devices, one sequence at a time, so that gradients are accumulated on fewer."""
    fields = {"devices": 4, "micro_batch": 1} | others
    return Layout(sharding=sharding, recompute="none", sequence=CONTEXT, replicas=replicas, **fields)


LAYOUTS = {
    "ddp": layout("ddp"),
    "zero1": layout("zero1"),
    "zero2": layout("zero2"),
    "zero3": layout("zero3"),
    "hybrid": layout("zero3", replicas=2),
    "tensor": layout("ddp", tensor=2),
    "tensor, zero1": layout("zero1", tensor=2),
    "tensor, zero3": layout("zero3", tensor=2),
}
CUT = replace(MODEL, heads=4, kv_heads=2, hidden=24, qk_norm=True)
"""A model whose heads two ranks can share."""
ENCODER = Encoder(layers=1, width=16, heads=2, head_size=8, hidden=32, vocabulary=280, context=CONTEXT)
T5 = EncoderDecoder(layers=1, width=16, heads=2, head_size=8, hidden=32, vocabulary=280, context=CONTEXT)
MIXTURE = replace(MODEL, experts=Routing(count=4, active=2, shared=16, balance_loss=0.1))


class Told(msgspec.Struct):
    """Losses of every step and of the last evaluation, by case."""

    one: dict[str, list[float]]
    two: dict[str, list[float]]
    four: dict[str, list[float]]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return replace(nano(tmp_path_factory.mktemp("shards"), steps=STEPS), evaluations=2)


@pytest.fixture(scope="module")
def told(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Everything that several processes are asked, in one start of two and one of four."""
    home = tmp_path_factory.mktemp("parallel")
    kinds = {
        name: replace(recipe, name=name, layout=each, model=CUT if each.tensor > 1 else MODEL)
        for name, each in LAYOUTS.items()
    }
    prefix = Objective(name="prefix")  # says another number of tokens in every row
    text = 4 * 17  # of four rows of 16 tokens to be read, with one for each span taken out
    spans = {"model": T5, "batch_tokens": text, "n_tokens": STEPS * text}
    kinds |= {
        "unequal": replace(kinds["zero3"], objective=prefix),
        "muon": replace(kinds["zero1"], optimizer=Optimizer(name="muon", learning_rate=3e-3)),
        "recomputed, tied": replace(kinds["zero3"], recompute="full", model=replace(MODEL, tied=True, layers=2)),
        "encoder": replace(kinds["zero3"], model=ENCODER),
        "encoder-decoder": replace(kinds["ddp"], **spans),
        # The loss that balances experts is of each part: one process takes as many at once as each of several.
        "mixture": replace(kinds["zero3"], model=MIXTURE, micro_tokens=CONTEXT),
        "bf16": replace(kinds["zero3"], precision="bf16"),
        "tensor, recomputed": replace(kinds["tensor"], recompute="selective"),
    }
    compiled = {name: replace(kinds[name], compile=True) for name in ("ddp", "zero3")}

    def case(name: str, world: int, **fields: object) -> Case:
        broken = bool(fields.get("broken"))
        place = home / f"{name} on {world}{' broken' if broken else ''}"
        return Case(name=f"{name}{' broken' if broken else ''}", recipe=kinds[name], folder=str(place), **fields)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_REPORT_S", -1.0)
        one = {name: losses(case(name, 1)) for name in kinds}
        for name in ("muon", "bf16"):
            parts = replace(kinds[name], micro_tokens=CONTEXT)
            one[f"{name} in parts"] = losses(Case(name="", recipe=parts, folder=str(home / f"{name} in parts")))
        # 4 -> 2, and 1 -> 2 -> 1
        shrinking = Case(name="shrinking", recipe=kinds["tensor, zero3"], folder=str(home / "shrinking"), stop=3)
        growing = Case(name="growing", recipe=kinds["zero1"], folder=str(home / "growing"), stop=3)
        one["growing"] = losses(growing)
        four = _started(4, [*(case(name, 4) for name in LAYOUTS), shrinking], home / "four")
        more = [replace(shrinking, stop=6), replace(growing, stop=6)]
        two = _started(
            2,
            [
                *(case(name, 2) for name in kinds),
                *(case(name, 2, broken=True) for name in LAYOUTS),
                *(
                    Case(
                        name=f"{name} compiled", recipe=each, folder=str(home / f"{name} compiled"), backend="aot_eager"
                    )
                    for name, each in compiled.items()
                ),
                *more,
            ],
            home / "two",
        )
        for each in (shrinking, growing):
            one[f"{each.name} to its end"] = losses(replace(each, stop=None))
    return Told(one, two, four)


def _started(world: int, cases: list[Case], folder: Path) -> dict[str, list[float]]:
    folder.mkdir()
    (folder / "cases.json").write_bytes(msgspec.json.encode(cases))
    begin = [sys.executable, "-W", "error", "-m", "tests.train.parallel_worker", str(folder / "cases.json")]
    started = [
        subprocess.Popen(begin, cwd=ROOT, env=_environment(rank, world, port))
        for port in [_port()]
        for rank in range(world)
    ]
    try:
        assert [each.wait(timeout=_LONG_S) for each in started] == [0] * world
    finally:
        for each in started:
            each.kill()
            each.wait()
    found: dict[str, list[float]] = files.read_json(folder / RESULTS, dict[str, list[float]])
    return found


def _environment(rank: int, world: int, port: int) -> Mapping[str, str]:
    of_torchrun = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return os.environ | {name: str(value) for name, value in of_torchrun.items()} | {"OMP_NUM_THREADS": "1"}


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def apart(ours: list[float], theirs: list[float]) -> float:
    """The largest difference of two curves, nats."""
    assert len(ours) == len(theirs)
    return float(np.abs(np.subtract(ours, theirs)).max())


@pytest.mark.parametrize("name", LAYOUTS)
def test_two_and_four_processes_have_the_losses_of_one(told: Told, name: str) -> None:
    assert len(told.one[name]) == STEPS + 1
    assert apart(told.two[name], told.one[name]) < NEAR
    assert apart(told.four[name], told.one[name]) < NEAR


OTHERS = [
    "unequal", "recomputed, tied", "encoder", "encoder-decoder", "mixture", "tensor, recomputed",
]  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_two_processes_have_the_losses_of_one_whatever_they_learn_and_whatever_each_row_says(
    told: Told, name: str
) -> None:
    assert apart(told.two[name], told.one[name]) < NEAR


@pytest.mark.parametrize("name", ["ddp", "zero3"])
def test_two_processes_have_the_losses_of_one_with_their_blocks_compiled(told: Told, name: str) -> None:
    """As one graph each, by the compiler's own front end; kernels of its back end would take minutes here."""
    assert apart(told.two[f"{name} compiled"], told.one[name]) < NEAR


@pytest.mark.parametrize("name", ["muon", "bf16"])
def test_two_processes_have_losses_in_bf16_of_one_as_nearly_as_another_order_of_summation(
    told: Told, name: str
) -> None:
    """Such products (Muon's are always) make nothing or 1e-3 nats of the last digits of fp32, as rounding falls; so
    they do on one process. A gradient that is lost makes 1e-2."""
    parts = apart(told.one[f"{name} in parts"], told.one[name])
    assert apart(told.two[name], told.one[name]) < max(3 * parts, ROUNDED)
    assert min(apart(told.two[f"{layout} broken"], told.one[layout]) for layout in LAYOUTS) > 10 * ROUNDED


@pytest.mark.parametrize("name", LAYOUTS)
def test_where_gradients_of_the_others_do_not_arrive_the_curve_is_another(told: Told, name: str) -> None:
    """Or equal curves would prove nothing. The first loss is taken before the first gradient, and stays."""
    assert abs(told.two[f"{name} broken"][0] - told.one[name][0]) < NEAR
    assert apart(told.two[f"{name} broken"], told.one[name]) > APART


def test_four_processes_two_and_one_take_up_each_others_checkpoints(told: Told) -> None:
    curve = told.four["shrinking"] + told.two["shrinking"] + told.one["shrinking to its end"]
    assert apart(curve, told.one["tensor, zero3"]) < NEAR
    curve = told.one["growing"] + told.two["growing"] + told.one["growing to its end"]
    assert apart(curve, told.one["zero1"]) < NEAR


def test_owners_share_the_weights_of_a_model_about_equally() -> None:
    model = build(replace(MODEL, layers=8), seed=0, device="meta")
    dealt, weights = owners(model, 4), dict(model.named_parameters())
    assert dealt.keys() == weights.keys()
    held = [sum(weights[name].numel() for name, owner in dealt.items() if owner == rank) for rank in range(4)]
    assert max(held) <= 1.1 * sum(held) / 4 or max(held) == max(weight.numel() for weight in weights.values())


def test_an_environment_without_ranks_is_one_process() -> None:
    assert (place({}).rank, place({}).world) == (0, 1)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    found = place({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"} | meeting)
    assert (found.rank, found.world, found.local) == (5, 8, 1)
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "many"}):
        with pytest.raises(UsageError, match="place among processes"):
            place(wrong)
    with pytest.raises(UsageError, match="no MASTER_PORT, where processes meet"):
        place({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"})
    alone("a ladder", {})
    with pytest.raises(UsageError, match="a ladder starts the processes it needs itself"):
        alone("a ladder", {"RANK": "0", "WORLD_SIZE": "2"} | meeting)


def test_a_machine_with_fewer_gpus_than_processes_is_told_how_many_to_start() -> None:
    assert own_number(Place(rank=11, world=16, local=3), gpus=4) == 3
    with pytest.raises(UsageError, match="--nproc-per-node=4"):
        own_number(Place(rank=4, world=8, local=4), gpus=4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layout": layout("zero3", tensor=2)}, "does not divide kv_heads 1"),
        ({"layout": layout("ddp", tensor=2), "model": CUT, "optimizer": Optimizer(name="muon")}, "tensor 2 cuts them"),
        ({"layout": layout("ddp", tensor=4), "model": replace(CUT, kv_heads=4)}, "has tensor 4, which"),
        ({"layout": layout("ddp", pipeline=2)}, "pipeline 2"),
        ({"layout": layout("ddp", context=2)}, "context 2"),
        ({"layout": layout("ddp", expert=2)}, "expert 2"),
        ({"layout": layout("zero3", replicas=4)}, "has replicas 4, which"),
        ({"layout": layout("zero3"), "optimizer": Optimizer(name="muon")}, "Muon needs whole matrices"),
        ({"optimizer": Optimizer(name="adamw-8bit")}, "adamw-8bit"),
        ({"layout": layout("ddp", tensor=2), "model": MIXTURE}, "only dense decoders are cut"),
        ({"layout": layout("ddp", tensor=2), "model": ENCODER}, "only dense decoders are cut"),
        ({"layout": layout("ddp", tensor=2), "model": CUT, "compile": True}, "leave one of them out"),
        ({"precision": "fp16"}, "fp16"),
        ({"precision": "fp8"}, "fp8"),
        ({"batch_tokens": 5 * CONTEXT, "n_tokens": 50 * CONTEXT}, "cannot share evenly"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_in_a_sentence(
    recipe: Recipe, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        laid_out(replace(recipe, **fields), 2)


def test_a_layout_keeps_to_the_processes_there_are_and_to_the_micro_batch_planned(recipe: Recipe) -> None:
    found = laid_out(replace(recipe, layout=layout("zero2", replicas=2)), 4)
    assert (found.devices, found.replicas, found.micro_batch, found.accumulation) == (4, 2, 1, 1)
    found = laid_out(replace(recipe, batch_tokens=4 * BATCH, layout=layout("zero1", micro_batch=3)), 2)
    assert (found.devices, found.micro_batch, found.accumulation) == (2, 3, 3)
    assert laid_out(recipe, 2).sharding == "ddp"


_SLOW = """
import os, sys, signal, time
from pathlib import Path
from isoflop.train import session
usual = session.Session._step
def step(self, learner):
    mark = Path(sys.argv[2]) / "killed"
    if self.counters.step == 5 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(self, learner)
session.Session._step = step
from isoflop.specs.recipe_file import load
from isoflop.train.loop import train
train(load(Path(sys.argv[1])), folder=Path(sys.argv[2]) / "run")
"""


def test_a_worker_killed_under_torchrun_is_started_again_and_the_run_ends_as_if_nothing_had_been(
    recipe: Recipe, told: Told, tmp_path: Path
) -> None:
    (tmp_path / "trainer.py").write_text(_SLOW)
    saved = replace(recipe, name="zero3", layout=LAYOUTS["zero3"], checkpoint=Saving(every_steps=2))
    record.write_recipe(tmp_path, saved)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    ran = subprocess.run(
        [*torchrun, str(tmp_path / "trainer.py"), str(tmp_path / "recipe.toml"), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=_LONG_S, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "killed").exists()
    run = store.read(tmp_path / "run")
    assert run is not None
    assert run.status == "finished"
    assert run.loss_nats is not None
    assert abs(run.loss_nats - told.one["zero3"][-1]) < NEAR


_FULL = """
import os
import torch
from isoflop.train import session
usual = session.Session._step
def step(self, learner):
    if self.counters.step == 2 and os.environ["RANK"] == "0":
        raise torch.OutOfMemoryError("CUDA out of memory")
    return usual(self, learner)
session.Session._step = step
from isoflop.cli import main
main()
"""


def test_where_the_memory_of_one_runs_out_all_end_with_6_and_its_sentence(recipe: Recipe, tmp_path: Path) -> None:
    """Of the first, which keeps the store in which the others look for the reason."""
    record.write_recipe(tmp_path, replace(recipe, layout=LAYOUTS["zero3"]))
    (tmp_path / "trainer.py").write_text(_FULL)
    port = _port()
    begin = [sys.executable, str(tmp_path / "trainer.py"), "train", str(tmp_path / "recipe.toml"), "--name", "run"]
    started = [
        subprocess.Popen(
            [*begin, "--runs-dir", str(tmp_path)], cwd=ROOT, env=_environment(rank, 2, port), stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [each.communicate(timeout=_LONG_S)[1] for each in started]
    assert [each.returncode for each in started] == [6, 6], said
    assert all("memory ran out at step 2" in text.splitlines()[-1] for text in said)
    assert "process 0 of 2: " in said[1]
    run = store.read(tmp_path / "run")
    assert run is not None
    assert run.status == "failed"
    assert "memory ran out at step 2" in run.note


def test_on_several_processes_the_command_refuses_with_one_sentence_and_2(recipe: Recipe, tmp_path: Path) -> None:
    record.write_recipe(tmp_path, replace(recipe, layout=layout("zero3", pipeline=2)))
    ran = subprocess.run(
        [sys.executable, "-m", "isoflop", "train", str(tmp_path / "recipe.toml"), "--runs-dir", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=_LONG_S, env=_environment(0, 2, _port()),
    )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "pipeline 2" in ran.stderr
