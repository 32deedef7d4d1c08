from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import InputError
from jetlift.runtime.listing import expand, natural_key

if TYPE_CHECKING:
    from random import Random

KNOWN = {".png", ".jpg"}


def names(name: str | Path) -> list[str]:
    paths = expand(str(name), what="pictures", in_folder=KNOWN, in_pattern=KNOWN)
    return [path.name for path in paths]


def folder_of(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_a_folder_is_its_known_files_in_natural_order(tmp_path: Path) -> None:
    folder_of(tmp_path, "i10.png", "i2.png", "i1.JPG", "notes.txt", ".hidden.png", "deeper/i3.png")
    assert names(tmp_path) == ["i1.JPG", "i2.png", "i10.png"]


def test_a_folder_called_like_a_picture_is_none(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.png", "b.png/c.png")
    assert names(tmp_path) == ["a.png"]


def test_patterns_match_known_files_and_reach_deeper(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/i2.png", "a/i10.png", "b/i1.jpg", "b/i1.txt", "i0.png")
    assert names(tmp_path / "*" / "i*") == ["i2.png", "i10.png", "i1.jpg"]
    assert names(tmp_path / "**" / "*.png") == ["i2.png", "i10.png", "i0.png"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    folder_of(tmp_path, "data.bin", "a[1].png")
    assert names(tmp_path / "data.bin") == ["data.bin"]
    assert names(tmp_path / "a[1].png") == ["a[1].png"]  # no pattern, since the file exists


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.png", "does not exist"),
        ("empty", "has no pictures"),
        ("texts", "has no pictures"),
        ("*.gif", "has no pictures"),
        ("x" * 5000, "cannot be looked up"),
        ("nul\0byte", "does not exist|cannot be looked up"),
    ],
)
def test_what_names_nothing_is_refused(tmp_path: Path, name: str, says: str) -> None:
    folder_of(tmp_path, "texts/a.txt", "empty/.hidden.png")
    with pytest.raises(InputError, match=says) as caught:
        names(tmp_path / name)
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 1000


def test_a_device_is_neither_file_nor_folder() -> None:
    with pytest.raises(InputError, match="neither a file nor a folder"):
        names("/dev/null")


@given(st.lists(st.text(), max_size=8), st.randoms())
def test_any_names_have_one_natural_order(texts: list[str], random: Random) -> None:
    shuffled = random.sample(texts, len(texts))
    assert sorted(shuffled, key=natural_key) == sorted(texts, key=natural_key)


@given(st.text("ab_", max_size=4), st.lists(st.integers(0, 10**6), unique=True, max_size=9))
def test_numbers_in_names_count_as_numbers(stem: str, numbers: list[int]) -> None:
    ordered = sorted((f"{stem}{number}.png" for number in numbers), key=natural_key)
    assert ordered == [f"{stem}{number}.png" for number in sorted(numbers)]
