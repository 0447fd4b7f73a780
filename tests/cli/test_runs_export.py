"""`isoflop runs export` and `diff`: the same runs in other clothes, and what tells two apart."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from isoflop import files
from isoflop.errors import InputError
from isoflop.laws.table import table
from isoflop.specs.architecture import Decoder
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import record

Here = Callable[..., Any]
MODEL = Decoder(layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=270, context=16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six finished runs with curves, the last with another learning rate, and one that diverged."""
    for i in range(7):
        status = "diverged" if i == 6 else "finished"
        run = Run(
            id=f"r{i}", status=status, n_params=1e5 * 2**i, n_tokens=2e6 * 2**i, counts="total",  # type: ignore[arg-type]
            compute_flop=6e11 * 4**i * 2, loss_nats=None if i == 6 else 5.0 - 0.3 * i, architecture=MODEL,
            memory_bytes=1e7,
        )  # fmt: skip
        place = tmp_path / "runs" / run.id
        place.mkdir(parents=True)
        files.write_json(place / "run.json", run)
        rate = Optimizer(learning_rate=0.003 if i == 5 else 0.001)
        record.write_recipe(
            place, Recipe(name=run.id, shards="s", model=MODEL, n_tokens=64, batch_tokens=64, optimizer=rate)
        )
        for step in range(1, 21):
            loss = 6.0 - 0.1 * step + (0.5 if i == 5 and step > 10 else 0.0)
            record.append(place, record.Row(step=step, n_tokens=64 * step, wall_s=1.0, loss_nats=loss))
    return tmp_path / "runs"


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_laws_read_what_is_exported_as_they_read_the_folder(here: Here, folder: Path, ending: str) -> None:
    out = folder.parent / f"out.{ending}"
    assert here("runs", "export", str(out), "--runs-dir", str(folder), "--status", "finished").code == 0
    ours, theirs = table(out), table(folder)
    for name in ("n_params", "n_tokens", "loss_nats", "compute_flop"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.size == 6


def test_a_jsonl_holds_the_runs_themselves(here: Here, folder: Path) -> None:
    said = here("runs", "export", "-", "--format", "jsonl", "--runs-dir", str(folder))
    read = [msgspec.json.decode(line, type=Run) for line in said.out.splitlines()]
    assert [run.id for run in read] == [f"r{i}" for i in range(7)]


def test_parquet_and_csv_hold_the_same_columns(here: Here, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow")
    for name in ("out.parquet", "out.csv"):
        assert here("runs", "export", str(folder.parent / name), "--runs-dir", str(folder)).code == 0
    read = parquet.read_table(folder.parent / "out.parquet")
    with (folder.parent / "out.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert read.column_names == list(rows[0])
    assert read["architecture.width"].to_pylist() == [int(row["architecture.width"]) for row in rows]
    assert read["loss_nats"].to_pylist()[6] is None
    assert rows[6]["loss_nats"] == ""


def test_curves_are_one_row_a_line_with_the_run_beside(here: Here, folder: Path) -> None:
    out = folder.parent / "curves.csv"
    told = here("runs", "export", str(out), "--curves", "--json", "--runs-dir", str(folder)).json
    assert (told["schema"], told["rows"], told["runs"]) == ("isoflop/runs.export@1", 7 * 20, 7)
    with out.open() as source:
        assert {row["run_id"] for row in csv.DictReader(source)} == {f"r{i}" for i in range(7)}


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [(["out.txt"], 2, "--format"), (["-", "--format", "parquet"], 2, "name a file"),
     (["o.csv", "--status", "failed"], 4, "no run to export")],
)  # fmt: skip
def test_what_cannot_be_exported_is_said(
    here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, sentence: str
) -> None:
    monkeypatch.chdir(folder.parent)
    said = here("runs", "export", *words)
    assert said.code == code
    assert sentence in said.err


def test_a_diff_names_the_field_that_was_changed_and_the_step_where_losses_part(here: Here, folder: Path) -> None:
    told = here("runs", "diff", "r4", "r5", "--json", "--runs-dir", str(folder)).json
    assert told["recipe"] == [
        {"name": "name", "a": "r4", "b": "r5"},
        {"name": "optimizer.learning_rate", "a": 0.001, "b": 0.003},
    ]
    assert told["data"] == []
    assert (told["parting"]["first_unequal"], told["parting"]["beyond_noise"]) == (11, 11)
    assert told["parting"]["mean_nats"] == pytest.approx(0.5)
    shown = here("runs", "diff", "r4", "r5", "--runs-dir", str(folder)).out
    assert "optimizer.learning_rate" in shown
    assert "beyond noise from step 11" in shown


def test_a_run_and_itself_differ_in_nothing(here: Here, folder: Path) -> None:
    told = here("runs", "diff", "r1", "r1", "--json", "--runs-dir", str(folder)).json
    assert told["recipe"] == told["data"] == told["origin"] == []
    assert told["parting"]["first_unequal"] is None


def test_a_list_is_filtered_by_status_and_sorted_by_loss_with_the_unknown_last(here: Here, folder: Path) -> None:
    told = here("runs", "list", "--sort", "loss", "--json", "--runs-dir", str(folder)).json
    assert [row["run"]["id"] for row in told["runs"]] == ["r5", "r4", "r3", "r2", "r1", "r0", "r6"]
    told = here("runs", "list", "--status", "diverged", "--json", "--runs-dir", str(folder)).json
    assert [row["run"]["id"] for row in told["runs"]] == ["r6"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_law_refuses_runs_of_two_objectives_and_leaves_out_what_is_no_fit_however_they_were_exported(
    here: Here, folder: Path, ending: str
) -> None:
    for i in range(7):
        place = folder / f"r{i}" / "run.json"
        run = files.read_json(place, Run)
        asked = {"validation": "validation:8192@a", "tokenizer_sha256": "t", "key": f"k{i}"}
        files.write_json(place, replace(run, **asked, role="held_out" if i == 2 else "fit"))
    out = folder.parent / f"out.{ending}"
    assert here("runs", "export", str(out), "--runs-dir", str(folder)).code == 0
    found = table(out)
    assert found.size == 5
    assert sorted(dropped.reason for dropped in found.dropped) == ["diverged", "kept out of the fit as its proof"]
    last = folder / "r5" / "run.json"
    files.write_json(last, replace(files.read_json(last, Run), validation="masked of validation:8192@a"))
    assert here("runs", "export", str(out), "--runs-dir", str(folder)).code == 0
    with pytest.raises(InputError, match="2 different validation texts or objectives"):
        table(out)
