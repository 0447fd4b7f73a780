"""The tokenizer: exact round trips, Hugging Face's library agrees to the token, the same text gives the same file."""

import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.data import patterns
from isoflop.data import tokenizer as module
from isoflop.data.corpus import StandardLibrary
from isoflop.data.tokenizer import END_OF_TEXT, Tokenizer, slices
from isoflop.data.tokenizer_json import content
from isoflop.errors import InputError, UnknownNameError, UsageError

LIBRARY = [d.text for d in StandardLibrary().documents() if d.id.count("/") == 0][:60]
TRAINED = Tokenizer.train(LIBRARY, vocabulary=1500)
NASTY = ["-", "=", "_", "  ", " ", "\n", "\r\n", "\t", "def ", "self", "é", "日本", "🦑", "\u0301", "'LL", "'S", "''",
         "12", "٣", "Ⅷ", "\x00", "\u2028", "\u3000", "\xa0", "ſ", "İ", "#", END_OF_TEXT]  # fmt: skip


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    TRAINED.save(path)
    loaded = tokenizers.Tokenizer.from_file(str(path))
    loaded.encode_special_tokens = True  # read <|endoftext|> inside a text as text, as isoflop does
    return loaded


@given(st.text())
def test_any_text_comes_back_exactly(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text


@given(st.binary(max_size=40) | st.lists(st.sampled_from([b"a", b" ", b"\xc3", b"\xa9", b"\xff", b"\xed\xb2\x80",
       "🦑".encode()[:3], "日本".encode(), b"\xf4\x90\x80\x80"]), max_size=30).map(b"".join))  # fmt: skip
def test_any_bytes_come_back_exactly_and_what_is_text_is_encoded_as_text(stuff: bytes) -> None:
    ids = TRAINED.encode_bytes(stuff)
    assert TRAINED.decode_bytes(ids) == stuff
    try:
        assert ids.tolist() == TRAINED.encode(stuff.decode()).tolist()
    except UnicodeDecodeError:
        assert TRAINED.token_bytes[ids].sum() == len(stuff)


def test_bytes_between_texts_are_their_own_tokens() -> None:
    ids = TRAINED.encode_bytes(b"self\xff\xfeself").tolist()
    assert ids == [*TRAINED.encode("self").tolist(), 0xFF, 0xFE, *TRAINED.encode("self").tolist()]


@given(st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=40).map("".join))
def test_hostile_text_comes_back_exactly_and_its_bytes_are_counted(text: str) -> None:
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert TRAINED.token_bytes[ids].sum() == len(text.encode())
    assert TRAINED.end_of_text not in ids


def test_huggingface_encodes_the_standard_library_identically(huggingface: tokenizers.Tokenizer) -> None:
    theirs = huggingface.encode_batch(LIBRARY)
    for text, ours, their in zip(LIBRARY, TRAINED.encode_batch(LIBRARY), theirs, strict=True):
        assert ours.tolist() == their.ids
        assert huggingface.decode(their.ids) == text


def test_huggingface_encodes_hostile_text_identically(huggingface: tokenizers.Tokenizer) -> None:
    rng = random.Random(0)
    for _ in range(600):
        text = "".join(rng.choice(NASTY) * rng.randint(1, 20) for _ in range(rng.randint(1, 12)))
        assert TRAINED.encode(text).tolist() == huggingface.encode(text).ids, repr(text)


def test_huggingface_splits_around_characters_of_every_block_identically(huggingface: tokenizers.Tokenizer) -> None:
    """Letters, digits and spaces are what each library's Unicode tables say: they must say the same."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(points), 4001):
        text = "".join(f"a{c}b1{c}2 {c} " for c in points[start : start + 4001 : 11])
        assert TRAINED.encode(text).tolist() == huggingface.encode(text).ids


@pytest.mark.parametrize("name", patterns.PATTERNS)
def test_every_pattern_splits_hostile_text_as_huggingface_does(name: str, tmp_path: Path) -> None:
    """Both encode with the same tokens, so that a different split shows in the ids."""
    ours = Tokenizer(TRAINED.tokens, pattern=patterns.find(name).regex)
    ours.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    rng = random.Random(1)
    for _ in range(150):
        text = "".join(rng.choice(NASTY) * rng.randint(1, 20) for _ in range(rng.randint(1, 12)))
        assert ours.encode(text).tolist() == theirs.encode(text).ids, repr(text)


# As printed in openai/tiktoken, tiktoken_ext/openai_public.py.
PRINTED = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}


@settings(max_examples=100)
@given(text=st.lists(st.sampled_from(NASTY) | st.text(max_size=4), max_size=30).map("".join))
@pytest.mark.parametrize("name", PRINTED)
def test_patterns_of_published_tokenizers_split_as_printed(name: str, text: str) -> None:
    assert regex.findall(patterns.find(name).regex, text) == regex.findall(PRINTED[name], text)


@pytest.mark.parametrize(("name", "pieces"), [
    ("digits-1", ["1", "2", "3", "4", "5", "6", "7"]), ("ours", ["12", "34", "56", "7"]),
    ("digits-3", ["123", "456", "7"]), ("gpt4", ["123", "456", "7"]), ("gpt2", ["1234567"]),
])  # fmt: skip
def test_numbers_are_split_as_the_pattern_says(name: str, pieces: list[str]) -> None:
    found = patterns.find(name)
    assert regex.findall(found.regex, "1234567") == pieces
    assert found.digits is None or max(map(len, pieces)) == found.digits


def test_a_pattern_that_is_not_there_is_refused_with_all_that_are() -> None:
    with pytest.raises(UnknownNameError, match="digits-1, digits-2, digits-3, gpt2, gpt4, ours"):
        patterns.find("gpt5")


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["\n", "\n\n", " \n", "\n ", "x\n", "\r", "\r\n", "(", "!\n", "a", " ", "1\n"]),
                  st.integers(1, 30)),
        max_size=30,
    ),
    st.sampled_from(sorted(patterns.PATTERNS)),
)  # fmt: skip
def test_slices_encode_to_the_tokens_of_the_whole(pieces: list[tuple[str, int]], name: str) -> None:
    text = "".join(piece * count for piece, count in pieces)
    ours = Tokenizer(TRAINED.tokens, pattern=patterns.find(name).regex)
    with pytest.MonkeyPatch.context() as patch:
        whole = ours.encode(text)
        patch.setattr(module, "SLICE_CHARS", 8)
        assert "".join(slices(text)) == text
        np.testing.assert_array_equal(ours.encode(text), whole)


def test_a_long_text_is_really_cut() -> None:
    assert len(list(slices("a line of text\n" * 100_000))) > 3


@pytest.mark.parametrize("text", [" " * 1_000_000 + "x", "\n" * 1_000_000, "^" * 1_000_000, "数" * 300_000])
def test_a_million_equal_characters_break_nothing(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text
    assert Tokenizer.train([text, *LIBRARY[:5]], vocabulary=300).vocabulary == 300


def test_the_file_gives_the_same_tokenizer_back(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.tokens, loaded.pattern, loaded.sha256) == (TRAINED.tokens, TRAINED.pattern, TRAINED.sha256)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


TRAIN = """
import sys
from pathlib import Path
from isoflop.data.tokenizer import Tokenizer
text = Path(sys.argv[1]).read_text()
Tokenizer.train(text.split("\\f")[:: int(sys.argv[3])], vocabulary=700).save(Path(sys.argv[2]))
"""


def test_the_same_text_gives_the_same_file_in_any_process_order_and_number_of_threads(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\f".join(text.replace("\f", " ") for text in LIBRARY[:20]))
    files = set()
    for name, order, threads in (("a", "1", "1"), ("b", "1", "2"), ("c", "-1", "3")):
        run = [sys.executable, "-c", TRAIN, str(tmp_path / "text"), str(tmp_path / name), order]
        env = {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": order.strip("-")}
        subprocess.run(run, check=True, env={**os.environ, **env})
        files.add((tmp_path / name).read_bytes())
    assert len(files) == 1


def test_the_end_of_text_is_the_last_id_has_no_bytes_and_is_counted() -> None:
    assert TRAINED.vocabulary == 1500
    assert TRAINED.end_of_text == 1499
    assert TRAINED.token_bytes.shape == (1500,)
    assert TRAINED.token_bytes[-1] == 0
    assert TRAINED.decode([TRAINED.end_of_text]) == END_OF_TEXT


def test_bytes_that_are_no_text_decode_to_the_replacement_character() -> None:
    assert TRAINED.decode([0xFF, ord("a")]) == "\ufffda"


def test_a_vocabulary_below_the_bytes_or_above_the_text_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 257"):
        Tokenizer.train(["text"], vocabulary=256)
    with pytest.raises(InputError, match="only 261 different tokens"):
        Tokenizer.train(["text text"], vocabulary=5000)
    assert Tokenizer.train(["text text"], vocabulary=260).tokens[-1] == b"text"
    assert Tokenizer.train([""], vocabulary=257).vocabulary == 257


def test_special_tokens_stand_before_the_end_of_text_and_are_text_unless_asked_for(tmp_path: Path) -> None:
    chat = Tokenizer.train(LIBRARY[:5], vocabulary=400, special=["<|user|>", "<|model|>"])
    assert chat.special_ids == {"<|user|>": 397, "<|model|>": 398, END_OF_TEXT: 399}
    text = "<|user|>hi<|model|>"
    assert max(chat.encode(text)) < 397
    assert chat.decode(chat.encode(text)) == text
    ids = chat.encode(text, special=True).tolist()
    assert (ids[0], ids[-1]) == (397, 398)
    assert chat.decode(ids) == text
    chat.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").sha256 == chat.sha256
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(text).ids == ids
    plain = Tokenizer(chat.tokens)
    assert len({chat.sha256, plain.sha256, Tokenizer(chat.tokens, special=["<|user|>"]).sha256}) == 3


@pytest.mark.parametrize(
    ("special", "message"),
    [
        (["a b"], "without white space"), ([""], "without white space"), (["\n"], "printable"),
        (["x" * 300], "1 to 256"),
        ([END_OF_TEXT], "there already"), (["<a>", "<a>"], "given twice"), (["a"], "ordinary token"),
        (["Ġ"], "ordinary token"), (["self"], "ordinary token"),
    ],
)  # fmt: skip
def test_a_special_token_that_collides_is_refused(special: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tokenizer.train(["self " * 50], vocabulary=262, special=special[:2])


def test_special_tokens_count_against_the_vocabulary() -> None:
    with pytest.raises(UsageError, match="at least 258"):
        Tokenizer.train(["text"], vocabulary=257, special=["<a>"])


def test_a_smaller_tokenizer_is_the_one_that_training_would_have_given() -> None:
    again = Tokenizer.train(LIBRARY, vocabulary=900)
    assert TRAINED.smaller(900).sha256 == again.sha256
    with pytest.raises(UsageError, match="only 1500"):
        TRAINED.smaller(1501)


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    for number in (1500, -1):
        with pytest.raises(InputError, match=f"id {number} at place 1 is outside"):
            TRAINED.decode_bytes([5, number])


def test_a_vocabulary_without_all_bytes_or_with_a_token_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of the 256 bytes are no tokens, 0xff"):
        Tokenizer([bytes([byte]) for byte in range(255)])
    with pytest.raises(InputError, match="twice"):
        Tokenizer([*TRAINED.tokens, b"a"])
    path = tmp_path / "tokenizer.json"
    path.write_bytes(msgspec.json.encode(content(TRAINED.tokens[1:], TRAINED.pattern, [])))
    with pytest.raises(InputError, match=r"tokenizer\.json: 1 of the 256 bytes"):
        Tokenizer.load(path)


def test_a_lone_surrogate_is_refused_not_replaced() -> None:
    with pytest.raises(InputError, match="character 3 is a lone surrogate"):
        TRAINED.encode("abc\ud800")


def _foreign(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "tokenizer.json"
    TRAINED.save(path)
    content = msgspec.json.decode(path.read_bytes())
    for key, value in changes.items():
        content[key] = value
    path.write_bytes(msgspec.json.encode(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "settings differ"),
        ({"model": {"type": "WordPiece"}}, "not a byte-level BPE"),
        ({"model": {"vocab": {"a": 0, END_OF_TEXT: 2}}}, "without a gap"),
        ({"pre_tokenizer": None}, "not a byte-level BPE"),
        ({"added_tokens": []}, "settings differ"),
    ],
)
def test_a_tokenizer_that_would_encode_otherwise_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Tokenizer.load(_foreign(tmp_path, **changes))


def test_a_missing_or_torn_tokenizer_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(InputError, match=r"not a tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(InputError, match="not a byte-level BPE"):
        Tokenizer.load(tmp_path / "tokenizer.json")
