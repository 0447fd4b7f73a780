"""Tables of runs that differ in their mixture: ours, RegMix's, and what is wrong with some."""

from pathlib import Path

import pytest

from isoflop.errors import InputError, UsageError
from isoflop.laws.mixture_table import matching, read

OURS = "run,seed,share books,share code,loss books,loss code\nmix-0,0,0.25,0.75,4.0,3.0\nmix-1,7,0.5,0.5,3.5,3.2\n"
SHARES = "index,books,code,note\n1,0.25,0.75,first\n2,0.5,0.5,second\n"
LOSSES = "index,books_loss,code_loss\n2,3.5,3.2\n1,4.0,3.0\n"


def written(folder: Path, **tables: str) -> list[Path]:
    paths = []
    for name, text in tables.items():
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text(text)
    return paths


def test_one_table_and_two_hold_the_same_runs(tmp_path: Path) -> None:
    one, two = read(written(tmp_path, ours=OURS)), read(written(tmp_path, shares=SHARES, losses=LOSSES))
    assert one.domains == two.domains == ("books", "code")
    assert one.targets == ("books", "code")
    assert two.targets == ("books_loss", "code_loss")
    assert one.shares_RD.tolist() == two.shares_RD.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert one.losses_RT.tolist() == two.losses_RT.tolist() == [[4.0, 3.0], [3.5, 3.2]]


def test_regmix_is_read_as_published(shared_data: Path) -> None:
    folder = shared_data / "regmix"
    found = read([folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv"])
    assert found.shares_RD.shape == (512, 17)
    assert found.losses_RT.shape == (512, 13)
    assert found.sha256 != read([folder / "test_mixture_1m.csv", folder / "test_pile_loss_1m.csv"]).sha256


def test_a_run_without_a_loss_is_left_out_and_said(tmp_path: Path) -> None:
    found = read(written(tmp_path, ours=OURS.replace("4.0", "nan")))
    assert found.labels == ("mix-1",)
    assert found.dropped == ("mix-0: no loss books",)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"a": OURS.replace("0.75", "0.25")}, r"line 2: shares sum to 0.5"),
        ({"a": OURS.replace("0.75", "much")}, r"line 2, column share code: 'much' is not a number"),
        ({"a": OURS.replace("0.25,0.75", "-0.25,1.25")}, "negative"),
        ({"a": OURS.replace("loss ", "x ")}, 'no column has "loss" in its name'),
        ({"a": "run,share books,loss books\nr,1,3\n"}, "two at least"),
        ({"a": SHARES, "b": LOSSES.replace("1,4.0", "3,4.0")}, "in one of them only"),
        ({"a": SHARES, "b": LOSSES.replace("1,4.0", "2,4.0")}, "stands twice"),
        ({"a": SHARES, "b": LOSSES.replace("index", "run")}, "no column is in both"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tables: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, **tables))


def test_tables_of_other_domains_do_not_match(tmp_path: Path) -> None:
    ours = read(written(tmp_path, ours=OURS))
    other = read(written(tmp_path, other=OURS.replace("share code", "share letters")))
    with pytest.raises(InputError, match="'code'"):
        matching(other, ours)
    with pytest.raises(UsageError, match="3 tables"):
        read([tmp_path] * 3)
