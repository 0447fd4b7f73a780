"""Runs are read from whatever holds them; nothing is dropped or guessed in silence."""

import gzip
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

from isoflop.errors import FitError, InputError, UnknownNameError, UsageError
from isoflop.files import append_line, sha256_file, write_json
from isoflop.laws.table import RunTable, need, table
from isoflop.specs.architecture import EncoderDecoder, ParameterCount
from isoflop.specs.run import Run

HEADER = "N,D,loss\n"
ROW = "1e6,2e7,3.5\n"


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "runs.csv"


def read(path: Path, content: str | bytes, **options: Any) -> RunTable:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return table(path, **options)


def run(name: str = "a", **fields: object) -> Run:
    return msgspec.structs.replace(Run(id=name, n_params=1e6, n_tokens=2e7, loss_nats=3.5, counts="total"), **fields)


def test_a_table_is_read_with_its_columns_named_and_its_hash(csv: Path) -> None:
    found = read(csv, "source,params_N,tokens_D,flops_C,loss\nx,1e6,2e7,1.3e14,3.5\ny,2e6,4e7,,3.1\n")
    assert found.columns == {"N": "params_N", "D": "tokens_D", "C": "flops_C", "loss": "loss"}
    np.testing.assert_array_equal(found.n_params, [1e6, 2e6])
    np.testing.assert_array_equal(found.n_tokens, [2e7, 4e7])
    np.testing.assert_array_equal(found.compute_flop, [1.3e14, 6 * 2e6 * 4e7])  # no C said: 6 N D
    np.testing.assert_array_equal(found.loss_nats, [3.5, 3.1])
    assert found.labels == ("line 2", "line 3")
    assert (found.source, found.sha256) == (str(csv), sha256_file(csv))


def test_tokens_follow_from_compute_where_the_table_has_none(csv: Path) -> None:
    found = read(csv, "N,C,loss\n1e6,1.2e14,3.5\n")
    np.testing.assert_allclose(found.n_tokens, 2e7)


@pytest.mark.parametrize(
    ("header", "n", "d", "loss"),
    [
        ("Params,Tokens,Val Loss", "Params", "Tokens", "Val Loss"),
        ("num-params,train_tokens,final_loss", "num-params", "train_tokens", "final_loss"),
        ("params,tokens,loss", "params", "tokens", "loss"),
        (" N , D , loss ", "N", "D", "loss"),
    ],
)
def test_columns_are_guessed_by_their_usual_names(csv: Path, header: str, n: str, d: str, loss: str) -> None:
    assert read(csv, f"{header}\n{ROW}").columns == {"N": n, "D": d, "loss": loss}


def test_a_small_d_is_a_width_and_not_a_number_of_tokens(csv: Path) -> None:
    with pytest.raises(InputError, match="no column for D among N, d, loss; say which with --columns D=NAME"):
        read(csv, f"N,d,loss\n{ROW}")


def test_columns_said_win_over_columns_guessed(csv: Path) -> None:
    found = read(csv, "N,D,loss,ours\n1e6,2e7,3.5,4.5\n", columns={"loss": "ours"})
    assert found.loss_nats.tolist() == [4.5]
    assert found.columns["loss"] == "ours"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + (HEADER + ROW).encode(),
        "N\tD\tloss\n1e6\t2e7\t3.5\n",
        "N;D;loss\n1e6;2e7;3.5\n",
        "N,D,loss\r\n1e6,2e7,3.5\r\n",
        HEADER + "\n" + ROW + ",,\n",
        'N,D,loss\n"1e6", 2e7 ,3.5',
        "N\tD\tloss\r\n1e6\t2e7\t3.5\r\n".encode("utf-16"),
        (HEADER + ROW).encode("utf-16-be").join([b"\xfe\xff", b""]),
        gzip.compress((HEADER + ROW).encode(), mtime=0),
    ],
)
def test_what_spreadsheets_write_is_read(csv: Path, content: str | bytes) -> None:
    found = read(csv, content)
    assert (found.n_params.tolist(), found.n_tokens.tolist(), found.loss_nats.tolist()) == ([1e6], [2e7], [3.5])


BAD: list[tuple[str | bytes, str]] = [
    ("", r"runs\.csv: is empty"),
    (" \n\n", r"runs\.csv: is empty"),
    (bytes(range(256)), r"byte 128 is not UTF-8 text; a CSV table is needed"),
    (b"\x1f\x8b" + bytes(20), r"is a torn gzip file"),
    (gzip.compress((HEADER + ROW).encode(), mtime=0)[:-9], r"is a torn gzip file"),
    ("x,y\n1,2\n", r"no column for N and loss and D among x, y; say which with --columns N=NAME,loss=NAME,D=NAME"),
    (HEADER + ROW + "1e6,abc,3\n", r"runs\.csv line 3, column D: 'abc' is not a number; write it plain"),
    (HEADER + "7B,2e7,3\n", r"line 2, column N: '7B' is not a number"),
    (HEADER + '"1,000",2e7,3\n', r"line 2, column N: '1,000' is not a number"),
    (HEADER + "1e6,-5,3\n", r"line 2, column D: '-5' must be positive and finite"),
    (HEADER + "1e6,0,3\n", r"line 2, column D: '0' must be positive and finite"),
    (HEADER + "1e6,1e999,3\n", r"line 2, column D: '1e999' must be positive and finite"),
    (HEADER + "nan,2e7,3\n", r"line 2, column N: 'nan' must be positive and finite"),
    (HEADER + "1e6,,3\n", r"line 2, column D: '' is not a number"),
    (HEADER + "1e6,2e7,-3\n", r"line 2, column loss: '-3' must be positive"),
    (HEADER + "1\x00,2e7,3\n", r"line 2, column N: '1\\x00' is not a number"),
    (HEADER + ROW + "1e6,2e7\n", r"runs\.csv line 3: 2 cells, the header has 3"),
    (HEADER + "1e6,2e7,3,4\n", r"line 2: 4 cells, the header has 3"),
    ('N,D,loss,note\n1e6,2e7,3,"two\nlines"\n1e6,x,3,c\n', r"line 4, column D: 'x' is not a number"),
    ('N,D,loss,note\n1e6,2e7,3,"never closed\n', r"runs\.csv line \d: unexpected end of data"),
    ("N,D,loss,N\n1,2,3,4\n", r"line 1: column 'N' stands twice"),
    ("N,D,loss,Loss\n1,2,3,4\n", r"'loss' and 'Loss' could both be loss; say which with --columns loss=NAME"),
]


@pytest.mark.parametrize(("content", "said"), BAD)
def test_a_bad_table_is_refused_with_file_line_and_column(csv: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(csv, content)
    assert str(caught.value).startswith(str(csv))


def test_a_run_without_a_finite_loss_is_left_out_and_its_line_recorded(csv: Path) -> None:
    rows = "".join(f"1e6,2e7,{loss}\n" for loss in ["3.5", "", "nan", "NaN", "NA", "null", "inf", "-Infinity", "3.1"])
    found = read(csv, HEADER + rows)
    assert found.loss_nats.tolist() == [3.5, 3.1]
    assert found.labels == ("line 2", "line 10")
    assert [d.where for d in found.dropped] == [f"line {i}" for i in range(3, 10)]
    assert {d.reason for d in found.dropped} == {"no loss", "no finite loss"}


@pytest.mark.parametrize("said", ["True", "true", "TRUE", "1", "1.0", "yes", "Y", "t", " x "])
def test_an_excluded_row_is_left_out_and_recorded(csv: Path, said: str) -> None:
    found = read(csv, f"N,D,loss,bad\n1e6,2e7,9,{said}\n1e6,2e7,3.5,False\n", exclude="bad")
    assert found.loss_nats.tolist() == [3.5]
    assert found.dropped == (("line 2", "excluded by bad"),)


@pytest.mark.parametrize("said", ["False", "false", "0", "0.0", "no", "N", "f", "", "nan", "None"])
def test_a_row_that_is_not_excluded_stays(csv: Path, said: str) -> None:
    assert read(csv, f"N,D,loss,bad\n1e6,2e7,3.5,{said}\n", exclude="bad").size == 1


def test_an_exclusion_that_is_neither_true_nor_false_is_refused(csv: Path) -> None:
    with pytest.raises(InputError, match="line 2, column bad: 'maybe' is neither true nor false"):
        read(csv, "N,D,loss,bad\n1e6,2e7,3.5,maybe\n", exclude="bad")


def test_only_the_rows_asked_for_are_read(csv: Path) -> None:
    rows = "N,D,loss,set\n1e6,2e7,3.5,a\n1e6,2e7,oops,b\n2e6,2e7,3.1,a\n"
    assert read(csv, rows, where={"set": "a"}).labels == ("line 2", "line 4")
    with pytest.raises(InputError, match="no row has set=c"):
        read(csv, rows, where={"set": "c"})


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"columns": {"N": "size"}}, UnknownNameError, "no column named 'size'"),
        ({"columns": {"n": "N"}}, UnknownNameError, "no quantity named 'n'; did you mean 'N'"),
        ({"columns": {"N": "D"}}, UsageError, "column 'D' cannot be both"),
        ({"exclude": "los"}, UnknownNameError, "no column named 'los'; did you mean 'loss'"),
        ({"where": {"set": "a"}}, UnknownNameError, "no column named 'set'"),
        ({"counts": "non_embedding"}, UsageError, "a table has one N"),
    ],
)
def test_a_wrong_option_names_what_there_is(
    csv: Path, options: Mapping[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read(csv, HEADER + ROW, **options)


def test_runs_dearer_than_a_budget_are_left_out_and_recorded(csv: Path) -> None:
    found = read(csv, HEADER + ROW + "1e6,2e9,3\n1e6,3e7,3.4\n", max_flop=2e14)
    assert found.labels == ("line 2", "line 4")
    assert found.dropped == (("line 3", "dearer than 2e+14 FLOP"),)
    with pytest.raises(UsageError, match="max_flop -1: must be positive"):
        read(csv, HEADER + ROW, max_flop=-1)


def test_a_column_of_weights_is_read_with_the_runs_it_belongs_to(csv: Path) -> None:
    rows = "N,D,loss,w\n1e6,2e7,3.5,2\n1e6,2e7,nan,1\n2e6,4e7,3.1,0\n"
    weights = read(csv, rows, weights="w").weights
    assert weights is not None
    assert weights.tolist() == [2.0, 0.0]
    for bad in ("-1", "x", "inf", ""):
        with pytest.raises(InputError, match="line 2, column w: "):
            read(csv, f"N,D,loss,w\n1e6,2e7,3.5,{bad}\n", weights="w")
    with pytest.raises(UnknownNameError, match="no column named 'weight'"):
        read(csv, rows, weights="weight")


def test_runs_to_predict_need_no_loss(csv: Path) -> None:
    found = read(csv, HEADER + ROW + "2e6,4e7,nan\n2e6,4e7,\n", need_loss=False)
    np.testing.assert_array_equal(found.loss_nats, [3.5, np.nan, np.nan])
    assert found.dropped == ()
    assert np.isnan(read(csv, "N,D\n1e6,2e7\n", need_loss=False).loss_nats).all()
    with pytest.raises(InputError, match="line 2, column loss: 'x' is not a number"):
        read(csv, HEADER + "1e6,2e7,x\n", need_loss=False)
    proof = table([run("proof", role="held_out"), run("open", status="running")], need_loss=False)
    np.testing.assert_array_equal(proof.loss_nats, [3.5, np.nan])


def test_a_packed_list_of_runs_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl.gz").write_bytes(gzip.compress(b"{}", mtime=0))
    with pytest.raises(InputError, match="gunzip it first"):
        table(tmp_path / "runs.jsonl.gz")


COLUMNS: dict[str, list[Any]] = {"N": [1e6, 2e6, 4e6], "D": [2e7, 4e7, 8e7], "loss": [3.5, None, 3.1]}


@pytest.mark.parametrize(
    "runs",
    [
        COLUMNS,
        {name: np.array(values, dtype=float) for name, values in COLUMNS.items()},
        pd.DataFrame(COLUMNS, index=[7, 9, 11]),
        pd.DataFrame(COLUMNS).convert_dtypes(),
        pl.DataFrame(COLUMNS),
    ],
    ids=["dict", "arrays", "pandas", "pandas-nullable", "polars"],
)
def test_columns_in_memory_are_read_alike(runs: Any) -> None:
    found = table(runs)
    assert found.n_params.tolist() == [1e6, 4e6]
    assert found.n_tokens.tolist() == [2e7, 8e7]
    assert found.loss_nats.tolist() == [3.5, 3.1]
    assert found.dropped == (("row 1", "no loss"),)


@pytest.mark.parametrize("runs", [3, None, {"N": 1e6, "D": 2e7, "loss": 3.5}, [1, 2, 3], object()])
def test_what_holds_no_runs_is_refused(runs: Any) -> None:
    with pytest.raises(UsageError, match=r"^runs: a \w+ is not a path, a list of Run, a dict or a frame"):
        table(runs)


def test_two_columns_of_one_name_in_a_frame_are_refused() -> None:
    twice = pd.DataFrame([[1e6, 2e7, 3.5, 2e6]], columns=["N", "D", "loss", "N"])
    with pytest.raises(InputError, match="column 'N' stands twice"):
        table(twice)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"columns of different lengths: \{'N': 2, 'D': 1, 'loss': 1\}"):
        table({"N": [1, 2], "D": [1], "loss": [1]})


def test_our_own_runs_that_are_no_evidence_are_left_out_with_the_reason() -> None:
    found = table(
        [
            run("good"),
            run("proof", role="held_out"),
            run("burst", status="diverged", note="loss 9.1 at step 12"),
            run("open", status="running", loss_nats=None),
            run("lost", loss_nats=None),
        ]
    )
    assert found.labels == ("good",)
    assert dict(found.dropped) == {
        "proof": "kept out of the fit as its proof",
        "burst": "diverged: loss 9.1 at step 12",
        "open": "running",
        "lost": "no finite loss",
    }


PARTS = ParameterCount(embedding=100, attention=40, mlp=60, norm=5, head=0, tied=True)


@pytest.mark.parametrize(("counts", "size"), [("total", 205), ("non_embedding", 105), ("matmul", 200)])
def test_our_own_runs_give_the_count_asked_for(counts: Any, size: int) -> None:
    found = table([run(parameters=PARTS, compute_flop=1e15)], counts=counts)
    assert found.counts == counts
    assert found.n_params.tolist() == [size]
    assert found.compute_flop.tolist() == [6 * size * 2e7]


def test_published_runs_keep_the_count_and_the_work_they_came_with() -> None:
    found = table([run(counts="non_embedding", compute_flop=1e15)])
    assert found.counts == "non_embedding"
    assert found.compute_flop.tolist() == [1e15]


@pytest.mark.parametrize(
    ("runs", "counts"),
    [
        ([run("a"), run("b", counts="non_embedding")], "total"),
        ([run("a"), run("b", counts="unknown")], "total"),
        ([run("a", parameters=PARTS), run("b", counts="total")], "non_embedding"),
    ],
)
def test_mixed_conventions_are_not_fitted_together(runs: list[Run], counts: Any) -> None:
    with pytest.raises(InputError, match="N is counted in several ways"):
        table(runs, counts=counts)


def test_a_count_the_runs_do_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="count total parameters and do not know the matmul ones"):
        table([run()], counts="matmul")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("tokenizer_sha256", "2 different tokenizers"),
        ("validation", "2 different validation texts or objectives"),
    ],
)
def test_losses_on_different_scales_are_not_fitted_together(field: str, said: str) -> None:
    with pytest.raises(InputError, match=f"{said} cannot be compared; fit them apart"):
        table([run("a", **{field: "x"}), run("b", **{field: "y"})])
    assert table([run("a", **{field: "x"}), run("b"), run("c", role="held_out", **{field: "y"})]).size == 2


def test_the_work_of_two_stacks_is_their_own_and_not_six_n() -> None:
    both = EncoderDecoder(layers=2, width=64, heads=2, head_size=32, hidden=128, vocabulary=1040, context=128)
    found = table([run("a", architecture=both, parameters=PARTS, compute_flop=3e9), run("b", parameters=PARTS)])
    np.testing.assert_allclose(found.compute_flop, [3e9, 6 * PARTS.total * 2e7], rtol=1e-12)


@pytest.mark.parametrize("field", ["n_params", "n_tokens", "compute_flop"])
@pytest.mark.parametrize("value", [0.0, -5.0, float("inf"), float("nan")])
def test_an_impossible_run_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"run a: {field} is .+ must be positive and finite"):
        table([run("a", **{field: value})])


def test_a_folder_and_a_jsonl_hold_the_same_runs(tmp_path: Path) -> None:
    ours = [run("a"), run("b", n_params=2e6)]
    for one in ours:
        write_json(tmp_path / "runs" / one.id / "run.json", one)
        append_line(tmp_path / "runs.jsonl", one)
    folder, lines, single = (
        table(tmp_path / "runs"), table(str(tmp_path / "runs.jsonl")), table(tmp_path / "runs" / "a" / "run.json"),
    )  # fmt: skip
    assert folder.labels == lines.labels == ("a", "b")
    np.testing.assert_array_equal(folder.n_params, lines.n_params)
    assert single.labels == ("a",)
    assert lines.sha256 == sha256_file(tmp_path / "runs.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.jsonl", "", "no runs in it"),
        ("runs.jsonl", '{"id":"a","n_params":1}\n', "line 1: Object missing required field `n_tokens`"),
        ("runs.jsonl", "N,D,loss\n", "line 1: "),
        ("run.json", "[]", "Expected `object`"),
        ("folder/x", "", r"no run\.json in its folders; name a folder of runs or a table"),
    ],
)
def test_files_that_hold_no_runs_say_so(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        table(path.parent if name.startswith("folder") else path)


def test_a_table_that_is_not_there_or_may_not_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        table(tmp_path / "none.csv")
    append_line(tmp_path / "runs.jsonl", run())
    with pytest.raises(UsageError, match="columns are chosen in CSV tables only"):
        table(tmp_path / "runs.jsonl", exclude="bad")
    if os.geteuid() != 0:
        (tmp_path / "closed.csv").write_text(HEADER)
        (tmp_path / "closed.csv").chmod(0)
        with pytest.raises(InputError, match="cannot be read"):
            table(tmp_path / "closed.csv")


def test_taking_fewer_runs_is_recorded_where_a_reason_is_given() -> None:
    found = table({"N": [1e6, 2e6], "D": [2e7, 4e7], "loss": [3.5, 3.1]})
    kept = found.only(np.array([True, False]), reason="too dear")
    assert (kept.labels, kept.dropped) == (("row 0",), (("row 1", "too dear"),))
    assert found.only(np.array([True, False])).dropped == ()


def test_too_few_or_too_similar_runs_are_refused_with_advice() -> None:
    few = table({"N": [1e6] * 3, "D": [2e7] * 3, "loss": [3.0] * 3})
    with pytest.raises(FitError, match=r"5 coefficients need at least 6 runs; got 3\. Add rungs"):
        need(few, coefficients=5)
    flat = table({"N": [1e6] * 9, "D": list(np.geomspace(1e6, 1e9, 9)), "loss": [3.0] * 9})
    with pytest.raises(FitError, match="all runs have one model size; its exponent cannot be told"):
        need(flat, coefficients=5)


def test_the_published_table_is_read_with_its_outliers_counted(shared_data: Path) -> None:
    found = table(shared_data / "laws" / "chinchilla_epoch_svg.csv", exclude="excluded_by_besiroglu")
    assert (found.size, len(found.dropped)) == (240, 5)
    assert found.columns == {"N": "params_N", "D": "tokens_D", "C": "flops_C", "loss": "loss"}
