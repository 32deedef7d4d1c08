from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from jetlift.runtime.errors import ArtefactError, InputError, StorageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.anomaly import AnomalyModel

if TYPE_CHECKING:
    from jetlift.runtime.bundle import Bundle


@dataclass(frozen=True)
class BoxHead:
    kind: Literal["jetlift-box"] = field(doc="Says what the file is")
    schema_version: int = field(doc="Version of this schema")
    stamp: artefact.Stamp = field(doc="Whose numbers these are")
    arrays_sha256: dict[str, str] = field(doc="Hash per array")
    names: tuple[str, ...] = field(doc="One per row")
    skipped: int = field(doc="A number")


@dataclass(frozen=True, eq=False)
class Box:
    """The least that a task may keep in a file."""

    head: BoxHead
    vectors: np.ndarray

    def save(self, path: Path) -> None:
        artefact.save(path, self.head, {"vectors": self.vectors})

    @classmethod
    def load(cls, path: Path) -> Box:
        head, arrays = artefact.load(path, BoxHead, version=1, what="a box")
        return cls(head, arrays["vectors"])


@pytest.fixture
def index(bundle: Bundle) -> Box:
    head = BoxHead(
        kind="jetlift-box",
        schema_version=1,
        stamp=artefact.stamp(bundle, "image", "fp32", "cpu"),
        arrays_sha256={},
        names=("/photos/Größe.png", "/a.txt"),
        skipped=0,
    )
    return Box(head, np.eye(2, 8, dtype=np.float32))


@pytest.fixture
def file(index: Box, tmp_path: Path) -> Path:
    index.save(tmp_path / "index")
    return tmp_path / "index"


def rewrite(path: Path, **changed: Any) -> None:
    """Put other arrays into a file; None takes one out."""
    with np.load(path) as loaded:
        arrays = {name: loaded[name] for name in loaded.files} | changed
    with path.open("wb") as handle:
        np.savez(handle, **{name: array for name, array in arrays.items() if array is not None})


def head_text(path: Path) -> bytes:
    with np.load(path) as loaded:
        return loaded["head"].tobytes()


def as_head(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8)


def test_a_file_is_plain_arrays_and_json(file: Path, index: Box) -> None:
    with np.load(file, allow_pickle=False) as loaded:
        assert sorted(loaded.files) == ["head", "vectors"]
    read = Box.load(file)
    assert replace(read.head, arrays_sha256={}) == index.head
    np.testing.assert_array_equal(read.vectors, index.vectors)


def test_the_same_content_makes_the_same_bytes(index: Box, file: Path, tmp_path: Path) -> None:
    index.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_every_flipped_byte_of_the_vectors_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("vectors.npy")
    lengths = content[info.header_offset + 26 : info.header_offset + 30]  # of name and extra field
    start = info.header_offset + 30 + lengths[0] + lengths[2]
    for offset in range(start, start + info.file_size, 7):
        spoilt = bytearray(content)
        spoilt[offset] ^= 0x10
        file.write_bytes(spoilt)
        with pytest.raises(ArtefactError):
            Box.load(file)


def test_vectors_of_another_file_are_noticed(file: Path) -> None:
    rewrite(file, vectors=np.eye(2, 8, k=1, dtype=np.float32))
    with pytest.raises(ArtefactError, match="not the ones that were written"):
        Box.load(file)


@pytest.mark.parametrize("kept", [0, 1, 100, -40, -1])
def test_a_cut_file_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ArtefactError, match="cannot be read"):
        Box.load(file)


@pytest.mark.parametrize("content", [b"hello", b"{}", b"\x80\x04N."])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "index"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="is not a box") as caught:
        Box.load(path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with path.open("wb") as handle:
        np.savez(handle, head=np.array([{"a": 1}], object), vectors=np.zeros(1))
    with pytest.raises(ArtefactError, match="allow_pickle"):
        Box.load(path)
    with path.open("wb") as handle:
        np.save(handle, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ArtefactError, match="cannot be read"):
        Box.load(path)


def test_a_plain_npy_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with path.open("wb") as handle:
        np.save(handle, np.zeros(3))
    with pytest.raises(ArtefactError):
        Box.load(path)


def test_a_box_is_no_anomaly_model(file: Path) -> None:
    with pytest.raises(ArtefactError, match="is not an anomaly model"):
        AnomalyModel.load(file)


def test_a_head_of_another_form_or_version_is_refused(file: Path) -> None:
    text = head_text(file)
    for old, new, says in (
        (b'"schema_version": 1', b'"schema_version": 2', "schema version is 2"),
        (b'"skipped": 0', b'"skipped": "no"', "skipped"),
        (b"jetlift-box", b"other-box", "kind"),
        (b"{", b"[", "JSON"),
    ):
        rewrite(file, head=as_head(text.replace(old, new, 1)))
        with pytest.raises(ArtefactError, match=says):
            Box.load(file)
    for head in (None, np.zeros(3)):
        rewrite(file, head=head)
        with pytest.raises(ArtefactError, match="no head"):
            Box.load(file)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        Box.load(tmp_path / "index")


def test_a_place_that_cannot_be_written_is_a_storage_error(index: Box, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        index.save(tmp_path / "file" / "index")


def test_another_bundle_part_or_precision_is_refused(bundle: Bundle) -> None:
    stamp = artefact.stamp(bundle, "image", "fp32", "cpu")
    artefact.check_stamp(stamp, bundle, "image", "fp32", "The index")
    other_target = replace(stamp, target="orin-nano-8gb", bundle_folder="/elsewhere")
    artefact.check_stamp(other_target, bundle, "image", "fp32", "The index")
    with pytest.raises(ArtefactError, match="another bundle of tiny"):
        artefact.check_stamp(
            replace(stamp, bundle_sha256="0" * 64), bundle, "image", "fp32", "The index"
        )
    with pytest.raises(ArtefactError, match="made with image at fp32") as caught:
        artefact.check_stamp(stamp, bundle, "image", "int8", "The index")
    assert caught.value.exit_code == 3
    assert "--precision fp32" in str(caught.value)
