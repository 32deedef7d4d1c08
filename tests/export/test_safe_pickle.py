"""Checkpoints that are pickles: arrays come out, and nothing in them ever runs."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from jetlift.export.safe_pickle import read_arrays
from jetlift.runtime.errors import ArtefactError, InputError

WEIGHTS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "half": np.float16([1.5, -2]),
    "double": np.float64([0.1]),
    "whole": np.int64([[3]]),
    "one": np.float32(7.5),
    "none": np.zeros((0, 3), np.float32),
    "swapped": np.array([1, 2], ">f4"),
}


class Runs:
    """Pickles as a call that leaves a mark."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def saved(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back_as_they_were_written(tmp_path, protocol):
    content = {"model": WEIGHTS, "__author__": "somebody", "matching_heuristics": True}
    read = read_arrays(saved(tmp_path / "a.pkl", content, protocol))
    assert read.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], np.asarray(value, read[name].dtype))
        assert read[name].dtype == (np.int64 if name == "whole" else np.float32)
    ordered = collections.OrderedDict(WEIGHTS)
    assert read_arrays(saved(tmp_path / "b.pkl", ordered, protocol)).keys() == WEIGHTS.keys()


def test_a_file_of_torch_is_read_by_its_reader_of_weights(tmp_path):
    state = {"a": torch.ones(2, 3, dtype=torch.bfloat16), "n": torch.tensor([4])}
    for name, zipped in (("zip.pth", True), ("old.pth", False)):
        torch.save(
            {"model": state, "iteration": 3}, tmp_path / name,
            _use_new_zipfile_serialization=zipped,
        )  # fmt: skip
        read = read_arrays(tmp_path / name)
        np.testing.assert_array_equal(read["a"], np.ones((2, 3), np.float32))
        assert read["n"].dtype == np.int64


def attacks(mark: Path) -> dict[str, object]:
    return {
        "a command": Runs(os.system, f"touch {mark}"),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "a file": Runs(open, str(mark), "w"),
        "an import": Runs(__import__, "antigravity"),
        "a loader of numpy's": Runs(np.load, str(mark)),
        "a mapping of a file": Runs(np.memmap, str(mark), "u1", "w+", 0, (3,)),
        "a counter": collections.Counter("a"),
        "objects in an array": np.array([Runs(os.system, f"touch {mark}"), 1], object),
    }


@pytest.mark.parametrize("which", attacks(Path("mark")))
@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_what_would_run_is_refused_and_does_not_run(tmp_path, which, suffix):
    mark = tmp_path / "mark"
    content = {"model": {"a": np.ones(2, np.float32), "b": attacks(mark)[which]}}
    path = tmp_path / f"evil{suffix}"
    if suffix == ".pkl":
        saved(path, content)
    else:
        torch.save(content, path)
    with pytest.raises(ArtefactError, match="is not read"):
        read_arrays(path)
    assert not mark.exists()


CRAFTED = {
    "an array that numpy did not write": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntVb\ntR."
    ),
    "an array made by a call": b"cnumpy\nndarray\n(I3\ntR.",
    "a type of objects": b"cnumpy\ndtype\n(VO\ntR.",
    "a type with names": b"cnumpy\ndtype\n(Vf4,f4\ntR.",
    "another codec": b"c_codecs\nencode\n(Va\nVrot13\ntR.",
    "something outside": b"Pelsewhere\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "nothing": b"",
    "no pickle": b"\x00\x01",
}


@pytest.mark.parametrize("which", CRAFTED)
def test_crafted_files_are_refused(tmp_path, which):
    path = tmp_path / "crafted.pkl"
    path.write_bytes(CRAFTED[which])
    with pytest.raises(ArtefactError, match="is not read"):
        read_arrays(path)


def test_a_cut_file_is_refused(tmp_path):
    whole = pickle.dumps({"model": WEIGHTS})
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.pkl").write_bytes(whole[:length])
        with pytest.raises(ArtefactError, match="is not read"):
            read_arrays(tmp_path / "cut.pkl")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ArtefactError, match="is not read"):
        read_arrays(tmp_path / "cut.pth")


@pytest.mark.parametrize(
    "content", [{}, [1], {"model": {}}, {"model": {"a": "text"}}, {"model": {3: np.ones(2)}}]
)
def test_what_holds_no_arrays_by_name_is_refused(tmp_path, content):
    with pytest.raises(ArtefactError, match="is not read"):
        read_arrays(saved(tmp_path / "a.pkl", content))


def test_other_files_are_refused(tmp_path):
    for name in ("absent.pkl", "a.bin"):
        with pytest.raises(InputError, match="is no checkpoint"):
            read_arrays(tmp_path / name)
