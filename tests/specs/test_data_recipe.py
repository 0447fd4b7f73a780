"""A data recipe is read strictly, and says what is wrong where."""

from pathlib import Path

import pytest

from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.specs.data_recipe import Limits, Source, Stage, load

WHOLE = """
[[source]]
path = "crawl/*.warc.gz"
kind = "warc"
[[source]]
path = "notes"
[limits]
document_bytes = 1000
[[stage]]
name = "length"
least = 10
"""


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "r.toml").write_text(text)
    return tmp_path / "r.toml"


def test_sources_stages_and_limits_are_read_in_order(tmp_path: Path) -> None:
    recipe = load(written(tmp_path, WHOLE))
    assert recipe.sources == (Source(path="crawl/*.warc.gz", kind="warc"), Source(path="notes"))
    assert recipe.stages == (Stage(name="length", options={"least": 10}),)
    assert recipe.limits == Limits(document_bytes=1000)
    assert recipe.folder == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("", UsageError, r"no \[\[source\]\]"),
        ("[[sources]]\npath='x'", UnknownNameError, "did you mean 'source'"),
        ("[source]\npath='x'", UsageError, "double brackets"),
        ("[[source]]\npaht='x'", UnknownNameError, "did you mean 'path'"),
        ("[[source]]\nkind='html'", UsageError, "number 1: missing: path"),
        ("[[source]]\npath=''", UsageError, "path is empty"),
        ("[[source]]\npath='x'\nkind='pdf'", UsageError, "pdf"),
        ("[[source]]\npath='x'\n[limits]\nnodes=0", UsageError, "nodes is 0"),
        ("[[source]]\npath='x'\n[limits]\nseconds=3", UnknownNameError, "seconds"),
        ("[[source]]\npath='x'\n[[stage]]\nleast=3", UsageError, "name is missing"),
        ("[[source]\n", UsageError, "not TOML"),
    ],
)
def test_a_wrong_recipe_is_told_in_a_sentence(tmp_path: Path, text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        load(written(tmp_path, text))


def test_a_missing_recipe_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "none.toml")
