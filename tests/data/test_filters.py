"""Filters: each published threshold holds on both sides of it, and every member keeps the contract."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data import filters
from isoflop.data.filters import Verdict, c4, fineweb, gopher_quality, gopher_repetition
from isoflop.data.filters._words import is_symbol, sentences, words
from isoflop.errors import UnknownNameError
from isoflop.registry import load

PROSE = (
    "The harbour of the old town lies between two hills, and fishing boats have gone out from it since anyone knows.\n"
    "A keeper watched the light at the end of its pier, wrote down each vessel, and kept that book with great care.\n"
    "When engines came, the boats grew larger. Fewer of them were needed to bring home what the market asked for.\n"
    "Is the pier still standing? Most of it is; storms took its last ten metres in a single winter night.\n"
    "Today visitors walk out to where the lamp once turned and look back at houses painted in every colour.\n"
)


def _judge(name: str) -> Callable[[str], Verdict]:
    judge: Callable[[str], Verdict] = load("filter", name, "isoflop.data.filters").judge
    return judge


def test_the_four_published_filters_are_there_by_the_names_of_their_files() -> None:
    assert filters.names() == ["c4", "fineweb", "gopher-quality", "gopher-repetition"]
    with pytest.raises(UnknownNameError, match="did you mean 'gopher-quality'"):
        filters.judge("x", ["gopher-qualty"])


@pytest.mark.parametrize("name", filters.names())
def test_good_prose_is_kept_as_it_is(name: str) -> None:
    verdict = _judge(name)(PROSE)
    assert verdict.keep, verdict.reason
    assert verdict.text.splitlines() == PROSE.splitlines()


@pytest.mark.parametrize("name", filters.names())
@given(text=st.text(max_size=400))
def test_any_text_gets_a_verdict_with_a_reason_exactly_where_it_is_dropped(name: str, text: str) -> None:
    verdict = _judge(name)(text)
    assert verdict.keep == (verdict.reason == "")
    assert verdict.keep or verdict.text == text
    assert _judge(name)(text) == verdict


def test_filters_in_turn_see_what_the_one_before_left() -> None:
    page = PROSE + "A line of the menu without a stop at its end\n"
    assert filters.judge(page, filters.names()) == Verdict.kept(PROSE.strip())
    dropped = filters.judge(page + "Call f() { return; } at the end of it.\n", ["c4", "fineweb"])
    assert dropped.reason == "c4: curly-bracket"


# Words of 4 letters, every other one a stop word.
def _plain(count: int) -> str:
    return " ".join(["that", "moon", "with", "calm"][i % 4] for i in range(count))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_plain(49), "too-few-words"),
        (_plain(50), ""),
        (_plain(49) + " , .", "too-few-words"),  # signs are no words
        (_plain(100_001), "too-many-words"),
        (_plain(100_000), ""),
        ("to of " * 40, "words-too-short"),
        ("that and " + "incomprehensible " * 60, "words-too-long"),
        (_plain(90) + " # # # # # # # # # #", ""),
        (_plain(89) + " # # # # # # # # # #", "too-many-hashes"),
        (_plain(90) + "… " * 11, "too-many-ellipses"),
        ("\n".join(["- " + _plain(8)] * 9 + [_plain(8)]), ""),
        ("\n".join(["- " + _plain(8)] * 10), "too-many-bullets"),
        ("\n".join([_plain(40)] * 7 + [_plain(40) + " ..."] * 3), ""),
        ("\n".join([_plain(40)] * 6 + [_plain(40) + " ..."] * 4), "too-many-lines-end-in-ellipsis"),
        (_plain(80) + " 1000" * 20, ""),
        (_plain(79) + " 1000" * 21, "too-few-alphabetic-words"),
        ("that moon calm lake " * 20, "too-few-stop-words"),
    ],
)
def test_gophers_quality_rules_hold_on_both_sides_of_the_threshold(text: str, reason: str) -> None:
    assert gopher_quality.judge(text).reason == reason


def _different(count: int, *, chars: int = 40) -> list[str]:
    """Lines without anything in common, all as long."""
    return [
        " ".join(f"{chr(97 + i % 26)}{i}{chr(97 + j)}" for j in range(12))[:chars].ljust(chars, "x")
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("\n".join(_different(100)), ""),
        ("\n".join(["a"] * 31 + _different(70)), ""),  # 30 of 101 lines
        ("\n".join(["a"] * 32 + _different(69)), "duplicate-lines"),  # 31 of 101
        ("\n".join([_different(1, chars=200)[0]] * 2 + _different(14)), "duplicate-line-characters"),
        ("\n\n".join(["a"] * 32 + _different(69)), "duplicate-paragraphs"),
        ("\n\n".join([_different(1, chars=200)[0]] * 2 + _different(14)), "duplicate-paragraph-characters"),
    ],
)
def test_gophers_repetition_rules_hold_on_both_sides_of_the_threshold(text: str, reason: str) -> None:
    assert gopher_repetition.judge(text).reason == reason


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_frequent_gram_is_measured_with_its_spaces(n: int) -> None:
    gram = " ".join("abcd"[:n])
    share = gopher_repetition.TOP_GRAMS[n]
    kept, dropped = (
        " ".join([f"{gram} {filler}" for filler in _fillers(int(len(gram) / bound) - len(gram) - 1)])
        for bound in (share * 0.9, share * 1.12)
    )
    assert gopher_repetition.judge(kept).reason != f"top-{n}-gram"
    assert gopher_repetition.judge(dropped).reason.startswith("top-")


def _fillers(chars: int) -> list[str]:
    return (
        [f"{i:0{chars}d}" for i in range(200)] if chars >= 3 else [chr(0x4E00 + i) * max(chars, 1) for i in range(200)]
    )


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("This one has a stop.", True),
        ('He said "so be it"', True),
        ("This one has none", False),
        ("This one trails off...", False),
        ("Two words.", False),
        ("Please turn Javascript on to go on.", False),
        ("See our Privacy Policy for what we keep.", False),
        (f"A word of {'x' * 1001} letters in it.", False),
        (f"A word of {'x' * 1000} letters in it.", True),
    ],
)
def test_c4_keeps_and_takes_out_lines(line: str, kept: bool) -> None:
    verdict = c4.judge(PROSE + line)
    assert verdict.keep
    assert (line in verdict.text) == kept


def test_c4_takes_marks_of_citations_out_and_counts_sentences() -> None:
    assert c4.judge(PROSE + "It was built early.[12] So they say.[citation needed]").text.endswith(
        "early. So they say."
    )
    assert c4.judge("One is here. Two is here. Three is here. Four is here.").reason == "too-few-sentences"
    assert c4.judge("One is here. Two is here. Three is here. Four is here. Five is.").keep
    assert c4.judge(PROSE + "Here lorem ipsum dolor sit amet.").reason == "lorem-ipsum"
    assert c4.judge(PROSE + "lorem ipsum without a stop").keep
    assert "without a stop" in c4.judge(PROSE + "A line without a stop", sign_at_end=False).text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n ", "empty"),
        ("\n".join([f"{line} of words" for line in _different(88)] + [f"{line}." for line in _different(12)]), ""),
        ("\n".join([f"{line} of words" for line in _different(89)] + [f"{line}." for line in _different(11)]),
         "lines-without-end-sign"),
        ("\n".join(f"{i:>29}." for i in range(67)) + "\n" + "\n".join(f"{i} of many words." * 9 for i in range(33)),
         ""),
        ("\n".join(f"{i:>29}." for i in range(68)) + "\n" + "\n".join(f"{i} of many words." * 9 for i in range(32)),
         "short-lines"),
        ("\n".join([*(f"{line} a." for line in _different(99)), *["x" * 42 + "."] * 2]), ""),
        ("\n".join([*(f"{line} a." for line in _different(95)), *["x" * 42 + "."] * 3]), "duplicate-line-characters"),
        ("\n".join(f"{i:>40} b." for i in range(50)), "list"),
    ],
)  # fmt: skip
def test_finewebs_rules_hold_on_both_sides_of_the_threshold(text: str, reason: str) -> None:
    assert fineweb.judge(text).reason == reason


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("don't stop-gap it's", "do n't stop - gap it 's"),
        ("U.S. Mr. Smith (hello) end...", "U.S. Mr. Smith ( hello ) end ..."),
        ("3.14 1,000 50% $5 1990-2000", "3.14 1,000 50 % $ 5 1990 - 2000"),
        ("x=y and/or www.a.org", "x = y and/or www.a.org"),
        ("“so,” he said.", "“ so , ” he said ."),
    ],
)
def test_words_are_split_as_the_thresholds_were_set(text: str, split: str) -> None:
    assert words(text) == split.split()


@given(st.text())
def test_no_character_is_lost_between_words(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


def test_sentences_and_symbols() -> None:
    assert sentences("Hello Mr. Smith. How are you? 3.14 is pi!") == 3
    assert sentences('"So?" he asked. (Yes.)') == 3
    assert all(map(is_symbol, [",", "--", "…", "$", "»"]))
    assert not any(map(is_symbol, ["a", "1", "x-y", "•"]))
