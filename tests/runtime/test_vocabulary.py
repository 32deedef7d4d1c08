from __future__ import annotations

import json
from pathlib import Path

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


def test_imagenet_21k_has_a_name_per_synset_and_all_are_prompts() -> None:
    words = vocabulary.words_of("imagenet-21k")
    # 21,841 synsets, of which several share a name; capitals are nothing to CLIP.
    assert len(words) == len({word.casefold() for word in words}) == 20068
    assert (words[0], words[-1]) == ("organism", "knothole")
    assert clean_prompts(words) == words
    assert {"power shovel", "combine", "Great Dane"} <= set(words)


def test_every_list_says_where_it_is_from() -> None:
    assert vocabulary.names() == ("imagenet-21k", "lvis")
    for name in vocabulary.names():
        content = json.loads(
            (Path(vocabulary.__file__).parent / "vocabularies" / f"{name}.json").read_text()
        )
        assert content["name"] == name
        assert content["source"]
        assert content["licence"]


def test_an_unknown_list_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="lvis"):
        vocabulary.words_of("imagenet")
