"""A folder of speech as samples: order, digests, and everything that must be refused."""

from __future__ import annotations

import numpy as np
import pytest

from jetlift.export.mel import filter_bank
from jetlift.export.recipes.whisper import FILTERS, PREPROCESS
from jetlift.export.samples import ItemContext
from jetlift.export.speech import read_utterances
from jetlift.runtime.errors import InputError

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "assets").mkdir()
    np.save(folder / FILTERS, filter_bank(80, 400, 16_000))
    return folder


def _add(folder, name: str, text: str | None, *, seconds: float = 0.2, seed: int = 0) -> None:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, int(16_000 * seconds))
    soundfile.write(folder / name, noise, 16_000)
    if text is not None:
        (folder / name).with_suffix(".txt").write_text(text, encoding="utf-8")


def _read(folder, assets):
    context = ItemContext(folder=folder, part=None, bundle_folder=assets, files={})
    return read_utterances(context, PREPROCESS)


def test_utterances_come_in_order_of_their_names_with_their_words(tmp_path, assets):
    for number in (10, 2, 1):
        _add(tmp_path, f"u{number}.wav", f"Number {number}.\n", seed=number)
    _add(tmp_path, "u3.flac", "Three.")
    (tmp_path / "corpus.json").write_text("{}")
    found = _read(tmp_path, assets)
    assert [item.text for item in found] == ["Number 1.", "Number 2.", "Three.", "Number 10."]
    assert {item.log_mel.shape for item in found} == {(1, 80, 3000)}
    assert len({item.digest for item in found}) == 4


def test_a_digest_is_of_sound_and_words(tmp_path, assets):
    _add(tmp_path, "u.wav", "One.")
    first = _read(tmp_path, assets)[0].digest
    assert _read(tmp_path, assets)[0].digest == first
    (tmp_path / "u.txt").write_text("Two.")
    second = _read(tmp_path, assets)[0].digest
    _add(tmp_path, "u.wav", "Two.", seed=5)
    assert len({first, second, _read(tmp_path, assets)[0].digest}) == 3


def _no_words(folder):
    _add(folder, "b.wav", None)


def _no_sound(folder):
    (folder / "b.txt").write_text("Words.")


def _twice(folder):
    _add(folder, "a.flac", None)


def _blank(folder):
    _add(folder, "b.wav", " …\n")


def _not_utf8(folder):
    _add(folder, "b.wav", None)
    (folder / "b.txt").write_bytes(b"\xff\xfe\xff")


def _too_long(folder):
    _add(folder, "b.wav", "Words.", seconds=30.1)


def _damaged(folder):
    _add(folder, "b.wav", "Words.")
    (folder / "b.wav").write_bytes(b"RIFF\0\0\0\0WAVE")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_no_words, "'b' without its words"), (_no_sound, "'b' without its words"),
        (_twice, "'a' without its words, without its sound, or twice"), (_blank, "has no word"),
        (_not_utf8, "cannot be read"), (_too_long, r"lasts 30\.1 s.*one window of 30 s"),
        (_damaged, "damaged WAV"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused(tmp_path, assets, spoil, told):
    _add(tmp_path, "a.wav", "Words.")
    spoil(tmp_path)
    with pytest.raises(InputError, match=told):
        _read(tmp_path, assets)


def test_no_folder_and_an_empty_one_are_refused(tmp_path, assets):
    with pytest.raises(InputError, match="no sound file"):
        _read(tmp_path, assets)
    with pytest.raises(InputError, match="is no folder"):
        _read(tmp_path / "nothing", assets)
