"""What a report says of a tokenizer, counted by hand or by another library; compression and the advice from it."""

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from isoflop.data import encoders
from isoflop.data.compression import Compression, Point, measure
from isoflop.data.corpus import StandardLibrary
from isoflop.data.domains import Domain, domains
from isoflop.data.encoders import HuggingFace, Own, named
from isoflop.data.read import Document
from isoflop.data.split import side
from isoflop.data.tokenizer import Tokenizer
from isoflop.data.tokenizer_report import report
from isoflop.data.vocabulary_advice import advise, ladder
from isoflop.errors import InputError, UsageError
from isoflop.laws.vocabulary import load

DOCUMENTS = [d for d in StandardLibrary().documents() if "/" not in d.id and len(d.text) < 20_000][:40]
OURS = Tokenizer.train([document.text for document in DOCUMENTS], vocabulary=800, special=["<|user|>"])
LAW = load()


def domain(text: str, name: str = "a") -> Domain:
    size = len(text.encode())
    return Domain(name=name, texts=[text], n_documents=1, n_bytes=size, sample_bytes=size)


def test_folders_and_data_files_are_domains_and_plain_files_of_one_folder_are_one(tmp_path: Path) -> None:
    for name in ("code/a.py", "code/deep/b.py", "web/c.txt", "d.txt", "e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "law.jsonl").write_text(json.dumps({"text": "one", "id": "x"}) + "\n" + json.dumps({"text": "two"}))
    found = {each.name: each for each in domains([tmp_path], sample_bytes=1 << 20)}
    assert {name: each.n_documents for name, each in found.items()} == {
        "code": 2, "web": 1, "law": 2, tmp_path.name: 2,
    }  # fmt: skip
    assert sorted(found["law"].texts) == ["one", "two"]
    assert found["web"].n_bytes == len("text of web/c.txt")
    alone = domains([tmp_path / "law.jsonl", tmp_path / "web"], sample_bytes=1 << 20)
    assert [each.name for each in alone] == ["law", "web"]
    with pytest.raises(InputError, match="two domains are called 'law'"):
        domains([tmp_path / "law.jsonl", tmp_path / "law.jsonl"], sample_bytes=1 << 20)


def test_bytes_per_token_are_bytes_over_ids() -> None:
    texts = [DOCUMENTS[0].text, DOCUMENTS[1].text]
    found = report(Own(OURS, name="ours"), [domain(text, str(i)) for i, text in enumerate(texts)])
    for row, text in zip(found.domains, texts, strict=True):
        assert row.n_tokens == len(OURS.encode(text))
        assert row.bytes_per_token == pytest.approx(len(text.encode()) / len(OURS.encode(text)))
    assert found.total.n_tokens == sum(row.n_tokens for row in found.domains)


def test_every_token_is_used_or_never_used() -> None:
    text = DOCUMENTS[0].text
    counts = Counter(OURS.encode(text).tolist())
    used = report(Own(OURS, name="ours"), [domain(text)]).used
    assert used.never == len(OURS.tokens) - len(counts)  # specials are not meant to occur in text
    assert used.seldom == sum(counts[number] < 10 for number in range(len(OURS.tokens)))
    assert used.by_rank[0] == (1, max(counts.values()))
    assert used.by_rank[-1] == (len(counts), min(counts.values()))
    assert all(OURS.tokens.index(token) not in counts for token in used.examples)


def test_fertility_is_counted_by_script() -> None:
    plain = Tokenizer([bytes([byte]) for byte in range(256)])
    found = report(Own(plain, name="bytes"), [domain("the cat, the dog; кот и 日本 नमस्ते 42")])
    rows = {row.script: row for row in found.scripts}
    assert list(rows) == ["Latin", "Cyrillic", "Devanagari", "Han"]
    assert (rows["Latin"].n_words, rows["Latin"].tokens_per_word) == (4, 4)  # a blank and three letters
    assert rows["Cyrillic"].tokens_per_word == (7 + 3) / 2
    assert (rows["Devanagari"].n_words, rows["Devanagari"].n_characters) == (1, 6)  # its marks belong to the word
    assert (rows["Han"].tokens_per_word, rows["Han"].tokens_per_character) == (None, 3)


def test_numbers_are_shown_as_they_are_cut() -> None:
    plain = Tokenizer([*(bytes([byte]) for byte in range(256)), b"20", b"24", b"123"])
    found = report(Own(plain, name="digits"), [domain("2024")]).digits
    assert found.numbers["2024"] == ["20", "24"]
    assert found.numbers["3.14159"] == ["3", ".", "1", "4", "1", "5", "9"]
    assert found.tokens == {1: 10, 2: 2, 3: 1, 4: 0, 5: 0}


def test_a_tokenizer_of_another_make_is_measured_by_its_own_library(tmp_path: Path) -> None:
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [document.text for document in DOCUMENTS[:5]]
    theirs.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet,
                               show_progress=False, special_tokens=["<s>"]))  # fmt: skip
    path = tmp_path / "theirs.json"
    theirs.save(str(path))
    found = named(str(path))
    assert isinstance(found, HuggingFace)
    text = DOCUMENTS[6].text + "<s>"
    ids = found.encode_batch([text])[0]
    assert b"".join(found.token(int(number)) or b"?" for number in ids) == text.encode()
    assert found.token(theirs.token_to_id("<s>") or 0) is None
    assert report(found, [domain(text)]).total.n_tokens == len(ids)


def test_one_of_ours_is_read_as_ours_and_no_tokenizer_is_refused(tmp_path: Path) -> None:
    OURS.save(tmp_path / "mine" / "tokenizer.json")
    found = named(str(tmp_path / "mine"))
    assert isinstance(found, Own)
    assert (found.name, found.token(800 - 1)) == ("mine", None)
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(InputError, match="no tokenizer that Hugging Face's library can read"):
        named(str(tmp_path / "no.json"))
    with pytest.raises(InputError, match="cl100k_base"):
        named(str(tmp_path / "nowhere"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as tiktoken's, with nothing in it."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_an_encoding_that_tiktoken_has_not_cached_is_left_out_and_never_fetched(cache: Path) -> None:
    with pytest.raises(InputError, match="none is fetched"):
        named("cl100k_base")
    place = encoders.cached(encoders.PUBLISHED["cl100k_base"].url)
    assert place == cache / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # known to all who ever looked into that folder
    place.write_bytes(b"not what was published")
    with pytest.raises(InputError, match="not the published file"):
        named("cl100k_base")
    assert place.exists()


def test_a_cached_encoding_is_read_as_tiktoken_reads_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {token: rank for rank, token in enumerate(OURS.tokens)}
    content = b"\n".join(base64.b64encode(token) + b" %d" % rank for token, rank in ranks.items())
    published = encoders.PUBLISHED["cl100k_base"]
    encoders.cached(published.url).write_bytes(content)
    own = published._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(encoders.PUBLISHED, "cl100k_base", own)
    reference = tiktoken.Encoding("x", pat_str=own.pattern, mergeable_ranks=ranks, special_tokens={})
    found, text = named("cl100k_base"), DOCUMENTS[2].text
    assert found.encode_batch([text])[0].tolist() == reference.encode(text)
    assert found.token(300) == OURS.tokens[300]


def test_compression_is_that_of_tokenizers_trained_for_each_vocabulary_on_text_not_learned_from() -> None:
    found = measure(DOCUMENTS, vocabularies=[600, 300, 600])
    held = [d.text for d in DOCUMENTS if side(d.id, validation_fraction=0.1) == "validation"]
    learned = [d.text for d in DOCUMENTS if side(d.id, validation_fraction=0.1) == "train"]
    assert found.held_out
    assert [point.vocabulary for point in found.points] == [300, 600]
    size = sum(len(text.encode()) for text in held)
    assert found.measured_bytes == size
    for point in found.points:
        trained = Tokenizer.train(learned, vocabulary=point.vocabulary)
        assert point.bytes_per_token == pytest.approx(size / sum(map(len, trained.encode_batch(held))), rel=1e-12)


def test_vocabularies_that_the_text_has_not_are_said() -> None:
    found = measure([Document("a", "text text")], vocabularies=[258, 5000])
    assert (found.held_out, found.missing, [point.vocabulary for point in found.points]) == (False, [5000], [258])
    with pytest.raises(InputError, match="only 261 different tokens"):
        measure([Document("a", "text text")], vocabularies=[5000])
    with pytest.raises(InputError, match="no text"):
        measure([], vocabularies=[300])
    for sizes in ([], [256]):
        with pytest.raises(UsageError, match="from 257 up"):
            measure([Document("a", "text")], vocabularies=sizes)


def curve(tokens_per_byte: dict[int, float]) -> Compression:
    points = [Point(vocabulary=size, bytes_per_token=1 / value) for size, value in sorted(tokens_per_byte.items())]
    return Compression(points=points, learned_bytes=1, measured_bytes=1, held_out=True, missing=[])


def test_the_advice_follows_the_law_and_names_its_ways() -> None:
    found = advise(LAW, n_params=1e8, width=768)
    assert found.vocabulary % 128 == 0
    assert min(found.by_law.values()) < found.vocabulary < max(found.by_law.values())
    assert (found.cheapest, found.warnings) == (None, [])


@settings(max_examples=30)
@given(st.floats(3e7, 1e9), st.floats(0.02, 0.15))
def test_the_cheapest_vocabulary_of_a_power_law_of_compression_is_found(n_params: float, power: float) -> None:
    """Tokens a byte ~ V^-p: (N + V d) V^-p is least at V = p / (1 - p) N / d."""
    width = 512
    wanted = power / (1 - power) * n_params / width
    sizes = np.geomspace(wanted / 20, wanted * 20, 80).astype(int)
    found = advise(
        LAW, n_params=n_params, width=width, compression=curve({int(v): v**-power for v in sizes if v > 300})
    )
    assert found.cheapest is not None
    assert found.cheapest_lo is not None
    assert found.cheapest_hi is not None
    assert found.cheapest == pytest.approx(wanted, rel=0.05)
    assert found.cheapest_lo < found.cheapest < found.cheapest_hi
    for row in found.candidates:
        if row.flop_per_byte is not None:
            assert row.flop_per_byte == pytest.approx(
                6 * (n_params + row.vocabulary * width) * row.vocabulary**-power, rel=1e-3
            )


@pytest.mark.parametrize(
    ("asked", "warning"),
    [
        ({"n_params": 1e6, "width": 128}, "extrapolation"),
        ({"n_params": 3e11, "width": 16384}, "extrapolation"),
        ({"n_params": 1e8, "width": 4096}, "the law knows N_v"),
        ({"n_params": 1e8, "width": 768, "compression": curve({1024: 0.4, 2048: 0.35})}, "beyond the largest"),
        ({"n_params": 1e8, "width": 768, "compression": curve({1024: 0.4, 65536: 0.1})}, "as many tokens"),
    ],
)
def test_what_is_uncertain_is_said(asked: dict[str, float], warning: str) -> None:
    found = advise(LAW, **asked)  # type: ignore[arg-type]
    assert any(warning in said for said in found.warnings)


def test_sizes_to_measure_surround_the_laws_answer() -> None:
    assert ladder(9000) == [1024, 2048, 4096, 8192, 16384, 32768, 65536]
    assert ladder(10) == [512, 1024, 2048, 4096]
    assert ladder(1e6)[-1] == 262144
