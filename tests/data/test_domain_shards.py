"""Domains as they lie there: names, one tokenizer for all, and what cannot be compared."""

from pathlib import Path

import pytest

from isoflop.data.domain_shards import find, open_all, write_all
from isoflop.errors import InputError, UsageError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three domains: two folders and a file."""
    folder = tmp_path / "corpus"
    for name, words in (("north", "lorem ipsum dolor "), ("south", "sed ut perspiciatis ")):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            (folder / name / f"{i}.txt").write_text(words * (20 + i))
    lines = [f'{{"id": "{i}", "text": "{"at vero eos " * 30}{i}"}}' for i in range(20)]
    (folder / "west.v1.jsonl").write_text("\n".join(lines))
    return folder


def test_a_folder_stands_for_the_domains_in_it(corpus: Path) -> None:
    assert [domain.name for domain in find([corpus])] == ["north", "south", "west"]
    assert [domain.name for domain in find([corpus / "west.v1.jsonl", corpus / "north"])] == ["west", "north"]


def test_all_domains_are_written_in_one_tokenizer_that_stays(corpus: Path, tmp_path: Path) -> None:
    def write() -> list[str]:
        found = write_all(find([corpus]), folder=tmp_path / "shards", vocabulary=270, validation_fraction=0.2)
        opened = open_all(found, context=16)
        assert len({shards.header.tokenizer_sha256 for shards in opened.values()}) == 1
        return [shards.content_sha256 for shards in opened.values()]

    assert write() == write()


def test_a_single_domain_or_two_of_one_name_are_no_mixture(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 domain; a mixture has two"):
        find([corpus / "west.v1.jsonl"])
    (tmp_path / "north.txt").write_text("other")
    with pytest.raises(InputError, match="two domains are called 'north'"):
        find([corpus / "north", tmp_path / "north.txt"])
    with pytest.raises(InputError, match="no such file"):
        find([corpus / "north", corpus / "nowhere"])


def test_text_beside_shards_different_tokenizers_and_too_short_a_domain_are_refused(
    corpus: Path, tmp_path: Path
) -> None:
    domains = find([corpus])
    found = write_all(domains, folder=tmp_path / "one", vocabulary=270, validation_fraction=0.2)
    with pytest.raises(UsageError, match="Give all as text, or all as shards"):
        find([found[0].path, corpus / "south"])
    others = write_all(domains, folder=tmp_path / "two", vocabulary=280, validation_fraction=0.2)
    with pytest.raises(InputError, match="different tokenizers"):
        open_all([found[0], others[1]], context=16)
    with pytest.raises(InputError, match="a window takes"):
        open_all(found, context=100_000)
    (tmp_path / "lone.txt").write_text("a single short text")
    with pytest.raises(InputError, match="domain lone: all 1 documents"):
        write_all([*domains, *find([tmp_path / "lone.txt", corpus / "north"])[:1]], folder=tmp_path / "three",
                  vocabulary=270, validation_fraction=0.2)  # fmt: skip
