"""The meter: time that adds up, memory that was planted, experts as they were chosen."""

import gc
import io
import sys
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from isoflop import files
from isoflop.cli.train import Log
from isoflop.count.flops import flops_per_token
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import StoppedError
from isoflop.model.build import build
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.saving import Saving
from isoflop.train import record, store
from isoflop.train.events import Event
from isoflop.train.gauges import Gauges, expert_load
from isoflop.train.loop import train
from isoflop.train.seconds import Seconds

MODEL = Decoder(layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=16)
MIXED = Decoder(
    layers=2, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=16,
    experts=Routing(count=4, active=1),
)  # fmt: skip
CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark is Linux's")


@linux
def test_memory_taken_and_freed_again_is_still_in_the_peak() -> None:
    gauges = Gauges(CPU)
    before = gauges.peak()
    taken = torch.ones(2**25)  # 134 MB
    del taken
    after = gauges.peak()
    assert before.memory_bytes is not None
    assert after.memory_bytes is not None
    assert after.memory_bytes - before.memory_bytes == pytest.approx(4 * 2**25, rel=0.05)


@linux
def test_what_an_earlier_run_left_in_a_cycle_is_not_the_room_of_this_one() -> None:
    gc.disable()
    try:
        ring: list[object] = [torch.ones(2**25)]
        ring.append(ring)
        del ring  # 134 MB that only the collector can free
        gauges = Gauges(CPU)
        before = gauges.peak()
        gc.collect()
        taken = torch.ones(2**25)
        del taken
        after = gauges.peak()
    finally:
        gc.enable()
    assert before.memory_bytes is not None
    assert after.memory_bytes is not None
    assert after.memory_bytes - before.memory_bytes == pytest.approx(4 * 2**25, rel=0.05)


@linux
def test_memory_taken_aside_is_the_process_s_and_not_the_training_s() -> None:
    gauges = Gauges(CPU)
    before = gauges.peak()
    with gauges.aside():
        taken = torch.ones(2**25)
        del taken
    after = gauges.peak()
    assert before.memory_bytes is not None
    assert after.memory_bytes is not None
    assert before.process_bytes is not None
    assert after.process_bytes is not None
    assert after.memory_bytes - before.memory_bytes < 2**24
    assert after.process_bytes - before.process_bytes > 2**26


def test_the_load_is_that_of_the_busiest_expert_in_the_worst_block() -> None:
    model = build(MIXED, seed=0, device=CPU, recompute="none")
    mixtures = [module for module in model.modules() if hasattr(module, "router")]
    assert len(mixtures) == 2
    for mixture, chosen in zip(mixtures, ([8, 8, 8, 8], [20, 4, 4, 4]), strict=True):
        mixture.chosen_E = torch.tensor(chosen)
    assert expert_load(model) == 20 / 8
    assert expert_load(build(MODEL, seed=0, device=CPU, recompute="none")) is None


def test_shares_of_the_time_add_up_to_all_of_it() -> None:
    spent = Seconds(data_s=1.0, forward_s=4.0, evaluation_s=2.0)
    assert spent.shares(10.0) == pytest.approx({"data": 0.1, "forward": 0.4, "evaluation": 0.2, "other": 0.3})
    assert spent.since(Seconds(forward_s=3.0)) == Seconds(data_s=1.0, forward_s=1.0, evaluation_s=2.0)


def test_the_lines_of_a_run_hold_all_the_time_of_its_steps(tmp_path: Path) -> None:
    documents = [Document(f"{i}.txt", "a law of runs and tokens, a ladder of runs. " * 20) for i in range(30)]
    tokenize(lambda: documents, folder=tmp_path / "s", vocabulary=270, validation_fraction=0.3, source="a sentence")
    recipe = Recipe(
        name="nano", shards=str(tmp_path / "s"), model=MIXED, n_tokens=20 * 64, batch_tokens=64,
        optimizer=Optimizer(learning_rate=3e-3), device="cpu", validation_tokens=256, evaluations=2,
    )  # fmt: skip
    said: list[Event] = []
    run = train(recipe, folder=tmp_path / "run", on_event=said.append, peak_flop_per_s=1e12)
    rows = [row for row in files.read_lines(tmp_path / "run" / store.METRICS, record.Row) if row.loss_nats is not None]
    steps_s = sum(64 / row.tokens_per_s for row in rows if row.tokens_per_s)
    spent = [row.spent for row in rows if row.spent is not None]
    assert len(spent) == 20
    inside_s = sum(each.data_s + each.forward_s + each.backward_s + each.optimizer_s for each in spent)
    assert inside_s <= steps_s
    assert all(each.forward_s > 0 and each.backward_s > 0 and each.optimizer_s > 0 for each in spent)
    assert spent[10].evaluation_s > 0  # the line after the first evaluation
    assert all(row.expert_load is not None and 1 <= row.expert_load <= 4 for row in rows)
    assert run.time_shares is not None
    assert sum(run.time_shares.values()) == pytest.approx(1.0)
    assert run.time_shares["evaluation"] > 0
    assert run.predicted is not None
    assert run.predicted.memory_bytes is not None
    assert any(event.kind == "note" and event.text.startswith("predicted") for event in said)
    last = next(event for event in reversed(said) if event.kind == "step")
    assert last.grad_norm == rows[-1].grad_norm
    assert last.left_s == 0
    flop = flops_per_token(MIXED, sequence=16).total
    assert [row.mfu for row in rows] == pytest.approx([flop * (row.tokens_per_s or 0.0) / 1e12 for row in rows])


@linux
def test_what_keeps_a_run_safe_is_not_counted_as_the_memory_of_its_training(tmp_path: Path) -> None:
    """Copies that are written beside training, and files read at a resume, are each as large as all states: 12 N."""
    documents = [Document(f"{i}.txt", "a law of runs and tokens, a ladder of runs. " * 20) for i in range(30)]
    tokenize(lambda: documents, folder=tmp_path / "s", vocabulary=270, validation_fraction=0.3, source="a sentence")
    wide = replace(MODEL, layers=4, width=384, heads=6, kv_heads=6, head_size=64, hidden=1024)
    recipe = Recipe(
        name="nano", shards=str(tmp_path / "s"), model=wide, n_tokens=6 * 64, batch_tokens=64,
        optimizer=Optimizer(learning_rate=3e-3), device="cpu", validation_tokens=256, evaluations=3,
        checkpoint=Saving(background=False),
    )  # fmt: skip
    beside = replace(recipe, checkpoint=Saving(background=True))
    waiting_run, beside_run = (
        train(each, folder=tmp_path / name) for each, name in ((recipe, "waiting"), (beside, "beside"))
    )
    with pytest.raises(StoppedError):
        train(recipe, folder=tmp_path / "cut", should_stop=lambda: (tmp_path / "cut" / store.METRICS).exists())
    resumed_run = train(recipe, folder=tmp_path / "cut")
    states_bytes = 12 * waiting_run.n_params
    assert waiting_run.memory_bytes is not None
    assert waiting_run.memory_bytes > 16 * waiting_run.n_params  # weights, gradients, two moments
    for run in (beside_run, resumed_run):
        assert run.memory_bytes == pytest.approx(waiting_run.memory_bytes, abs=states_bytes / 4)


def test_the_log_line_has_the_usual_order_and_no_escape_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    log = Log("runs/nano", stream=stream)
    log._spoke -= 60
    event = Event(
        kind="step", step=5, steps=10, n_tokens=320, loss_nats=4.5, learning_rate=3e-3, tokens_per_s=12_300.0,
        mfu=0.384, grad_norm=0.5123, memory_bytes=2.5e8, left_s=90.0,
    )  # fmt: skip
    log(event)
    assert stream.getvalue() == (
        "runs/nano: step 5/10 | loss 4.5000 | grad norm 0.512 | lr 3.00e-03 | 12.3K tokens/s | MFU 38.4% | 250 MB | "
        "1.5 min left\n"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_allocator_keeps_the_books() -> None:
    gauges = Gauges(torch.device("cuda"))
    taken = torch.ones(2**28, device="cuda")
    del taken
    peak = gauges.peak()
    assert peak.tensors_bytes == 4 * 2**28
    assert peak.memory_bytes is not None
    assert peak.memory_bytes >= peak.tensors_bytes
