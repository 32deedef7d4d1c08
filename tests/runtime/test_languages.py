"""Languages by code and by name, and what is said where there is none of the kind."""

from __future__ import annotations

import re

import pytest

from jetlift.runtime.errors import UnknownNameError
from jetlift.runtime.languages import ALIASES, LANGUAGES, WITHOUT_SPACES, language_code

TINY = tuple(LANGUAGES)[:99]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("ja", "ja"), ("JA", "ja"), ("Japanese", "ja"), (" japanese ", "ja"), ("Castilian", "es"),
        ("haitian creole", "ht"), ("haw", "haw"), ("jv", "jw"), ("mandarin", "zh"),
    ],
)  # fmt: skip
def test_codes_and_names_are_understood(asked, code):
    assert language_code(asked, TINY) == code


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("japanees", "Did you mean ja (Japanese) or jw (Javanese)?"),
        ("germn", "de (German)"),
        ("jp", "A code or an English name"),
        ("", "Language '' is unknown"),
        ("日本語", "Language '日本語' is unknown"),
    ],
)
def test_unknown_ones_are_refused_with_near_names(asked, told):
    with pytest.raises(UnknownNameError, match=re.escape(told)):
        language_code(asked, TINY)


def test_one_that_the_model_lacks_is_refused_as_that():
    assert language_code("Cantonese", LANGUAGES) == "yue"
    with pytest.raises(UnknownNameError, match=r"no Cantonese \(yue\).*99 languages"):
        language_code("yue", TINY)


def test_names_are_unique_and_aliases_lead_somewhere():
    assert len(set(LANGUAGES.values())) == len(LANGUAGES) == 100
    assert set(ALIASES.values()) | WITHOUT_SPACES <= set(LANGUAGES)
    assert not set(ALIASES) & set(LANGUAGES)
