"""The language of a text."""

import pytest

from isoflop.data.language import READ_CHARS, UNKNOWN, Language, identify

pytest.importorskip("py3langid", reason="py3langid is not installed: pip install 'isoflop[web]'")

SENTENCES = {
    "en": "The house stands on the hill and the sun is shining on the fields behind it.",
    "de": "Das Haus steht auf dem Hügel, und die Sonne scheint auf die Felder dahinter.",
    "fr": "La maison se trouve sur la colline et le soleil brille sur les champs derrière elle.",
    "es": "La casa está en la colina y el sol brilla sobre los campos que hay detrás de ella.",
    "ru": "Дом стоит на холме, и солнце светит на поля за ним. Это был старый дом, и жили в нём рыбаки.",
    "ja": "家は丘の上にあり、その後ろの畑に太陽が輝いています。",
    "zh": "房子坐落在山上，阳光照耀着后面的田野。",
    "ar": "يقف البيت على التل وتشرق الشمس على الحقول خلفه.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_is_known_by_its_language(code: str) -> None:
    found = identify(SENTENCES[code])
    assert found.code == code
    assert 0.5 < found.probability <= 1


@pytest.mark.parametrize("text", ["", " \n", "123 + 456 = 579 !!"])
def test_without_letters_there_is_nothing_to_tell_by(text: str) -> None:
    assert identify(text) == Language(UNKNOWN, 0.0)


def test_the_beginning_decides() -> None:
    english = SENTENCES["en"] * (READ_CHARS // len(SENTENCES["en"]) + 1)
    assert identify(english + SENTENCES["ru"] * 1000) == identify(english)


def test_a_lone_surrogate_is_read_like_any_sign() -> None:
    assert identify(SENTENCES["en"] + "\udc80").code == "en"
