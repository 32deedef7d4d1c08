from __future__ import annotations

import pytest

from jetlift.runtime import vocabulary
from jetlift.runtime.errors import UnknownNameError
from jetlift.runtime.prompts import clean_prompts


def test_lvis_has_its_names_in_order_and_all_are_prompts() -> None:
    words = vocabulary.words_of("lvis")
    # https://www.lvisdataset.org: version 1 has 1203 categories.
    assert len(words) == 1203
    assert (words[0], words[-1]) == ("aerosol can", "zucchini")
    assert clean_prompts(words) == words
    assert not any("_" in word for word in words)


def test_an_unknown_list_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="lvis"):
        vocabulary.words_of("imagenet")
