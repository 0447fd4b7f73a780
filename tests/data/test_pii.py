"""Personal data: what people write is found, what only looks like it is left, placeholders hang on content alone."""

import gzip
import ipaddress
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.data import pii
from isoflop.data.pii import Found, find, find_in, kinds, replace
from isoflop.data.pii.card import luhn
from isoflop.data.pii.iban import LENGTHS, mod97
from isoflop.errors import UnknownNameError, UsageError

# One line each, the find in guillemets.
PLANTED = {
    "email": """
        write to «john.doe@example.com».
        «john [at] example [dot] com» or so
        «john(at)example.org», please
        «john.doe AT example DOT co DOT uk»
        «john&#64;example.com»
        <«guido at python.org»>
        «jane @ example . com»
        «jane{at}mail.de»
        «jane-at-example-dot-com»
        «jane_at_example_dot_com»
        mailto:«jane%40mail.de»?subject=x
        https://x.org/?mail=«foo.bar+tag@sub.domain.museum»&x=1
        «jürgen.müller@müller.de»
        «foo＠bar.com»
        self.owner = "«admin@corp.io»"  # who to ask
        请联系«foo@bar.com»谢谢
        «john@x.com»:hunter2 was leaked""",
    "ip": """
        the server at «192.168.1.17» is up
        http://«203.0.113.9»:8080/x
        «81.2.69.160» - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0"
        «10.0.0.5» answers
        DNS_SERVER_IP=«8.8.4.4»
        inet addr:«10.1.2.3» netmask 255.255.255.0
        «2001:0db8:85a3:0000:0000:8a2e:0370:7334»
        curl http://[«2001:db8::1»]:443/
        ping «fe80::1ff:fe23:4567:890a»%eth0
        from «::ffff:192.0.2.128» accepted""",
    "phone": """
        call «+1 (415) 555-2671» now
        «+49 30 1234567»
        «+49 (0)30 / 123 456 78»
        «0049 30 1234567»
        «+33 1 23 45 67 89»
        «01 23 45 67 89»
        «01.23.45.67.89»
        «020 7946 0958»
        «(020) 7946 0958»
        «07700 900123»
        «0171/1234567»
        «089-12345678»
        «(415) 555-2671»
        «415-555-2671»
        «415.555.2671»
        «1-800-555-0199»
        «03-1234-5678»
        «(11) 98765-4321»
        «8 (495) 123-45-67»
        Tel: «612 345 678»
        phone «98765 43210»
        mobile: «13800138000»
        <a href="tel:«+4930123456»">
        https://wa.me/«491711234567»
        «+86 138 0013 8000»
        «+91-98765-43210»
        {"phone": "«4155552671»"}""",
    "card": """
        «4111 1111 1111 1111» exp 12/27
        «4111-1111-1111-1111»
        PAN=«5555555555554444»;
        «3782 822463 10005»
        «4111 1111 1111 1111» with hard spaces
        /pay?card=«6011111111111117»&x=1""",
    "iban": """
        IBAN «DE89 3704 0044 0532 0130 00» BIC
        «GB82WEST12345698765432»
        «FR14 2004 1010 0505 0001 3M02 606»
        «NO93 8601 1117 947»
        «MT84MALT011000012345MTLCAST001S»
        iban=«nl91abna0417164300»
        «CH93-0076-2011-6238-5295-7»
        «SA03 8000 0000 6080 1016 7519»
        «BR1800360305000010009795493C1»""",
    "ssn": """
        his number is «123-45-6789».
        SSN «123 45 6789»
        ssn=«123456789»""",
}

LEFT_ALONE = """
    version 1.2.3.4
    v10.2.3.4 released
    Section 4.3.2.1 says
    4.3.2.1 Title Of It
    see 1.2.3.4 and 2.3.4.5
    kernels since 2.6.36.4 do it
    Debian ships OpenOffice 9.12.44.3 there
    pkg==1.22.33.44
    foo-2.31.0.5.tar.gz
    Mozilla/5.0 Chrome/120.0.0.0 Safari/537.36
    bound to 127.0.0.1 and 0.0.0.0, netmask 255.255.255.0
    git@github.com:foo/bar.git
    git clone git@gitlab.example.com:a/b
    ssh://git@host.xz/path and user@host
    rsync deploy@server.example.com:/srv/app .
    x@w.mean(0) + A@B.T
    @app.route("/")
    icon@2x.png and getty@tty1.service
    look at github.com or available at python.org
    2024-01-02 03:04:05 and 20240102T030405Z
    01-02-2003 10:30 and 02.03.2004
    978-3-16-148410-0
    ISBN 0-306-40615-2, ISBN 9780306406157, 0 306 40615 2
    3.14159265358979 +3.14159265358979 1e+1234567890 -0.1234 0.5678 12
    1700000000000 and 1700000000.123456
    d41d8cd98f00b204e9800998ecf8427e
    123e4567-e89b-12d3-a456-426614174000
    x[::2] a::b std::fmt::Display cafe::bad
    00:11:22:33:44:55 and 12:30:45
    1990 1991 1992 1993
    0000-0002-1825-0097
    1234567890 2147483647 4294967295 18446744073709551615 1,234,567,890
    pp. 123-145, J. Phys. 12 (1998) 123-145
    1.3.6.1.4.1.311
    octal 012.004.002.000
    00 01 02 03 04 05 06 07
    4111 1111 1111 1112
    DE88 3704 0044 0532 0130 00
    000-12-3456 666-12-3456 912-34-5678 123-00-4567
"""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, text in PLANTED.items() for line in _lines(text)])
def test_what_people_write_is_found_to_the_character(kind: str, line: str) -> None:
    before, _, rest = line.partition("«")
    planted, _, _ = rest.partition("»")
    text = line.replace("«", "").replace("»", "")
    assert find(text) == [Found(kind, 1, len(before), len(before) + len(planted), planted)]


@pytest.mark.parametrize("line", _lines(LEFT_ALONE))
def test_versions_sections_dates_and_other_numbers_are_left(line: str) -> None:
    assert find(line) == []
    assert replace(line) == line


def test_a_planted_thing_is_found_at_its_line_in_a_long_text() -> None:
    lines = [line.replace("«", "").replace("»", "") for text in PLANTED.values() for line in _lines(text)]
    text = "\n\n".join(lines)
    assert [(found.line, found.text) for found in find(text)] == [
        (2 * number + 1, line.partition("«")[2].partition("»")[0])
        for number, line in enumerate(line for text in PLANTED.values() for line in _lines(text))
    ]


@given(st.integers(0, 2**32 - 1))
def test_every_public_address_is_found_where_a_word_names_it(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    nobodys = address.is_loopback or address.packed[0] in (0, 255)
    assert [found.text for found in find(f"login from {address} failed")] == ([] if nobodys else [str(address)])


@given(st.sampled_from(sorted(LENGTHS)), st.integers(min_value=0), st.booleans())
def test_an_iban_of_any_country_is_found_and_no_other_check_digits_are(country: str, seed: int, spaced: bool) -> None:
    account = f"{seed % 10**18:018d}{seed:d}".ljust(40, "7")[: LENGTHS[country] - 4]
    check = 98 - mod97(f"{country}00{account}")
    for digits in (check, 2 if check > 50 else 98):
        number = f"{country}{digits:02d}{account}"
        shown = " ".join(number[i : i + 4] for i in range(0, len(number), 4)) if spaced else number
        assert [f.text for f in find(shown, only=["iban"])] == ([shown] if digits == check else [])


@given(st.integers(0, 10**14 - 1), st.integers(0, 9))
def test_a_card_is_found_exactly_where_its_last_digit_is_luhns(body: int, last: int) -> None:
    number = f"4{body:014d}{last}"
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(number)]
    valid = sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
    assert luhn(number) == valid
    assert bool(find(f"card: {number[:4]} {number[4:8]} {number[8:12]} {number[12:]}.", only=["card"])) == valid


def test_the_same_content_becomes_the_same_placeholder_however_it_is_spelled() -> None:
    spellings = ["A.Doe@Example.org", "a.doe [at] example [dot] org", "a.doe&#64;example.org"]
    assert len({replace(text) for text in spellings}) == 1
    cards = {replace(text) for text in ("4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111")}
    assert len(cards) == 1
    assert replace("2001:db8:0:0:0:0:0:1") == replace("2001:db8::1")
    assert len({replace(f"user{i}@example.org") for i in range(1000)}) == 1000


def test_a_placeholder_hangs_on_the_key_and_on_neither_order_nor_process() -> None:
    text = "b@x.org then a@x.org"
    first, second = replace(text).split(" then ")
    assert replace("a@x.org then b@x.org") == f"{second} then {first}"
    script = f"from isoflop.data.pii import replace; print(replace({text!r}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == replace(text)
    assert replace(text, key="mine") != replace(text)
    assert replace("a@x.org") == "<EMAIL-" + replace("a@x.org")[7:19] + ">"
    for key in ("", "x" * 65):
        with pytest.raises(UsageError, match="1 to 64 bytes"):
            replace(text, key=key)


def test_nothing_is_found_in_what_was_replaced() -> None:
    text = "\n".join(line.replace("«", "").replace("»", "") for text in PLANTED.values() for line in _lines(text))
    assert find(replace(text)) == []


@pytest.mark.parametrize("size", [1, 7, 5000, 8192, 100_000])
def test_a_long_line_in_blocks_gives_what_it_gives_as_one(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(pii, "BLOCK_CHARS", 8192)
    generator = random.Random(0)
    planted = [line.replace("«", "").replace("»", "") for text in PLANTED.values() for line in _lines(text)]
    parts: list[str] = []
    for number in range(1500):
        parts.append(generator.choice(planted) + " and some words " * generator.randrange(20))
        parts.append("\n" if generator.random() < 0.01 and number < 500 else " ; ")
    text = "".join(parts)
    found = list(find_in(text[i : i + size] for i in range(0, len(text), size)))
    assert found == find(text)
    lines = text.split("\n")
    assert all(lines[f.line - 1][f.start : f.end] == f.text for f in found)
    # The same lines one by one: nothing hangs on where blocks are cut.
    alone = [(n, f.start, f.text) for n, line in enumerate(lines, 1) for f in find(line)]
    assert [(f.line, f.start, f.text) for f in found] == alone


@given(
    st.lists(st.integers(0, 255), min_size=4, max_size=4),
    st.sampled_from(["version {}", "v{}", "foo=={}", "foo >= {}", "lib-{}.tar.gz", "Chrome/{} Safari", "release {}"]),
)
def test_no_version_is_taken_for_an_address(numbers: list[int], around: str) -> None:
    assert find(around.format(".".join(map(str, numbers)))) == []


@given(st.lists(st.integers(1, 31), min_size=1, max_size=6), st.sampled_from(["{} Scope", "see {}.", "§ {}", "({})"]))
def test_no_section_number_is_taken_for_anything(numbers: list[int], around: str) -> None:
    assert [f for f in find(around.format(".".join(map(str, numbers)))) if numbers[:3] != [10, 0, 0]] == []


HOSTILE = [
    "a", "1", "1 ", "@", "a@", "a.", "a@a.", "1.", "+1", "(0", "01 ", "01-", "AA00", "DE89 ", "::", "a:", "2001:",
    " at ", " dot ", "a at a dot ", "[ ", "[at", "&#", "4111 ", "123-45-", "tel: 1", "(11) ", "<a at ", "1-1 ", "00 11",
    "@" + "a-" * 30 + "a.", "+1 (", "a%40a%40", "://a@", "tel ",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_time_is_linear_in_a_hostile_text(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        start = time.process_time()
        find(text)
        return time.process_time() - start

    # Eight times the text: 64 times the work where it is quadratic. CPU time, the fastest of three.
    small, large = (min(seconds(size) for _ in range(3)) for size in (4_000, 32_000))
    assert large < 30 * max(small, 0.002)


@given(st.text())
def test_any_text_can_be_searched_and_places_are_right(text: str) -> None:
    lines = text.split("\n")
    for found in find(text):
        assert lines[found.line - 1][found.start : found.end] == found.text


def test_kinds_can_be_chosen_and_a_wrong_one_is_named() -> None:
    assert kinds() == ["card", "email", "iban", "ip", "phone", "ssn"]
    assert [found.kind for found in find("a@b.org 4111111111111111", only=["card"])] == ["card"]
    with pytest.raises(UnknownNameError, match="did you mean 'email'"):
        find("x", only=["emial"])


def _texts(path: Path, *, chars: int) -> list[str]:
    texts: list[str] = []
    with gzip.open(path, "rt") as source:
        for line in source:
            texts.append(json.loads(line)["text"])
            if sum(map(len, texts)) > chars:
                break
    return texts


@pytest.mark.parametrize("name", ["code_python_stdlib", "webdocs_rust"])
def test_numbers_of_real_code_and_documentation_are_not_taken_for_personal(shared_data: Path, name: str) -> None:
    texts = _texts(shared_data / "text" / f"{name}.jsonl.gz", chars=2_000_000)
    found = [one for text in texts for one in find(text, only=["phone", "card", "iban", "ssn"])]
    candidates = sum(sum(part[:1].isdigit() for part in text.split()) for text in texts)
    assert candidates > 1000
    assert len(found) < 0.001 * candidates
