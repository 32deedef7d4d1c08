"""A hand-written file, files written and read back, a real one, and every way to be damaged."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export import ctranslate2
from jetlift.export.recipes import whisper
from jetlift.runtime.errors import InputError

# Version 6, "Toy" revision 3; variable "a/w": float16 [2, 1] = 1.0, -2.0; "n": int8 scalar 7;
# alias "b" of "a/w". Written by hand from the format, not by the writer below.
GOLDEN = bytes.fromhex(
    "06000000 0400 546f7900 03000000 02000000"
    "0400 612f7700 02 02000000 01000000 04 04000000 003c 00c0"
    "0200 6e00 00 01 01000000 07"
    "01000000 0200 6200 0400 612f7700"
)
KINDS = {"<f4": 0, "|i1": 1, "<i2": 2, "<i4": 3, "<f2": 4}


def _string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def _variable(name: str, array: np.ndarray) -> bytes:
    return (
        _string(name)
        + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        + struct.pack("<BI", KINDS[array.dtype.str], array.nbytes)
        + array.tobytes()
    )


def _file(variables: dict[str, np.ndarray], aliases: dict[str, str]) -> bytes:
    return b"".join(
        [
            struct.pack("<I", 6), _string("Spec"), struct.pack("<II", 1, len(variables)),
            *(_variable(name, array) for name, array in variables.items()),
            struct.pack("<I", len(aliases)),
            *(_string(alias) + _string(name) for alias, name in aliases.items()),
        ]
    )  # fmt: skip


def test_a_file_written_by_hand():
    file = ctranslate2.parse(GOLDEN, "golden")
    assert (file.specification, file.revision) == ("Toy", 3)
    assert list(file.variables) == ["a/w", "n", "b"]
    np.testing.assert_array_equal(file.variables["a/w"], np.array([[1], [-2]], np.float16))
    assert file.variables["n"].dtype == np.int8
    assert file.variables["n"].shape == ()
    assert int(file.variables["n"]) == 7
    assert file.variables["b"] is file.variables["a/w"]


def _array(kind: str, shape: list[int], seed: int) -> np.ndarray:
    count = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(count), kind).reshape(shape)


arrays = st.builds(
    _array,
    st.sampled_from(sorted(KINDS)),
    st.lists(st.integers(0, 4), max_size=4),
    st.integers(0, 2**32 - 1),
)
names = st.text("abc/_é0", max_size=6)


@settings(deadline=None)
@given(st.dictionaries(names, arrays, max_size=5), st.data())
def test_what_is_written_is_read(variables, data):
    aliases = {}
    if variables:
        known = st.sampled_from(sorted(variables))
        aliases = data.draw(st.dictionaries(names.filter(lambda n: n not in variables), known))
    file = ctranslate2.parse(_file(variables, aliases), "written")
    assert list(file.variables) == [*variables, *aliases]
    for name, array in variables.items():
        assert file.variables[name].dtype == array.dtype
        assert file.variables[name].shape == array.shape
        assert file.variables[name].tobytes() == array.tobytes()
    for alias, name in aliases.items():
        assert file.variables[alias] is file.variables[name]


@pytest.mark.parametrize("length", range(len(GOLDEN)))
def test_a_file_cut_short_anywhere_is_refused(length):
    with pytest.raises(InputError):
        ctranslate2.parse(GOLDEN[:length], "cut")


@settings(deadline=None)
@given(st.integers(0, len(GOLDEN) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_read_but_never_crashes(place, change):
    damaged = bytearray(GOLDEN)
    damaged[place] ^= change
    try:
        file = ctranslate2.parse(bytes(damaged), "damaged")
    except InputError:
        return
    # Names and values may change; there is never more than the file holds.
    assert sum(array.nbytes for array in file.variables.values()) <= 2 * len(GOLDEN)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (struct.pack("<I", 5) + GOLDEN[4:], "format version 5"),
        (b"PK\x03\x04" + GOLDEN, "no CTranslate2 file"),
        (GOLDEN + b"\0", "1 bytes follow the last alias"),
        (_file({"w": np.zeros(2, "<f4")}, {"alias": "nothing"}), "'nothing', which is not there"),
        (GOLDEN.replace(b"\x04\x04\0\0\0", b"\x05\x04\0\0\0"), "unknown element type 5"),
        (GOLDEN.replace(b"a/w\0\x02", b"a/w\0\x09"), "rank 9"),
        (GOLDEN.replace(b"\x04\x04\0\0\0", b"\x04\xff\xff\xff\xff"), "states 4294967295 bytes"),
        # A shape whose product overflows 64 bit, and would be 0 there.
        (
            GOLDEN.replace(b"\x02\0\0\0\x01\0\0\0\x04", b"\0\0\0\x80\0\0\0\x80\x04"),
            "states 4 bytes",
        ),
        (GOLDEN.replace(b"Toy\0", b"Toys"), "a name does not end"),
        (GOLDEN.replace(b"a/w\0\x02", b"\xff/w\0\x02"), "not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(content, told):
    with pytest.raises(InputError, match=told):
        ctranslate2.parse(content, "wrong")


def test_a_file_that_cannot_be_opened_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        ctranslate2.read(tmp_path / "model.bin")


def test_the_packaged_whisper():
    file = ctranslate2.read(whisper.PACKAGED.locate())
    assert (file.specification, file.revision) == ("WhisperSpec", 3)
    assert len(file.variables) == 149
    assert file.variables["decoder/projection/weight"].shape == (51_864, 384)
    assert file.variables["encoder/conv1/weight"].dtype == np.float16
