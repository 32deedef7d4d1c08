"""Rules B1 to B5 of runtime/bundle.py: what is refused, and in which words."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetlift.runtime import jsonform
from jetlift.runtime.bundle import Bundle, list_files, parse_manifest, sha256_of
from jetlift.runtime.errors import BundleError, InputError, UnknownNameError
from jetlift.runtime.manifest import (
    SCHEMA_VERSION,
    Cost,
    Manifest,
    Part,
    TensorSpec,
    TextPreprocess,
    Variant,
    Weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = {
    "text.fp32.onnx": b"not a graph, but a bundle is verified by its bytes " * 40,
    "text.int8.onnx": b"narrow",
    "text.int8.onnx.data": b"\0" * 5000,
    "assets/tokenizer.json": b"{}",
}


def _variant(precision: Any, data_files: tuple[str, ...] = ()) -> Variant:
    return Variant(
        precision=precision,
        rest="fp32",
        file=f"text.{precision}.onnx",
        data_files=data_files,
        cost=Cost(
            operations=2.0,
            operations_by_precision={precision: 2.0},
            weight_bytes=1.0,
            activation_bytes=1.0,
        ),
        kept_wide=(),
        fidelity=None,
    )


def _part() -> Part:
    return Part(
        inputs=(TensorSpec(name="ids", dtype="int64", shape=("batch", "sequence")),),
        outputs=(TensorSpec(name="embedding", dtype="float32", shape=("batch", 4)),),
        parameters=1,
        preprocess=TextPreprocess(
            kind="text", tokenizer="assets/tokenizer.json", max_tokens=8, ids="ids", mask="mask"
        ),
        variants={"fp32": _variant("fp32"), "int8": _variant("int8", ("text.int8.onnx.data",))},
    )


def _manifest(folder: Path) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        jetlift="0.1.0",
        model="tiny",
        tasks=("embed",),
        weights=Weights(source="none", licence="none", sha256=None, note="", random=True),
        parts={"text": _part()},
        calibration={},
        tools={},
        files=list_files(folder),
    )


def _write(folder: Path, manifest: Manifest) -> Path:
    (folder / "bundle.json").write_text(jsonform.dumps(manifest))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    for name, content in CONTENT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return _write(root, _manifest(root))


def _refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    assert "jetlift export" in message  # what to do
    return message


def test_a_whole_bundle_opens(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.manifest == _manifest(folder)
    assert bundle.folder == folder.resolve()
    assert bundle.sha256 == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert Bundle.open(str(folder)) == bundle


def test_a_bundle_opens_through_a_link_and_from_within(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert Bundle.open(tmp_path / "link").folder == folder.resolve()
    monkeypatch.chdir(folder)
    assert Bundle.open(".").folder == folder.resolve()


def test_engines_and_hidden_files_may_lie_beside_what_is_listed(folder: Path) -> None:
    engine = Bundle.open(folder).engine_path("cpu", "text", "int8")
    assert engine == folder / "engines" / "cpu" / "text.int8.engine"
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"engine")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_bytes(b"")
    assert Bundle.open(folder).manifest.model == "tiny"


# B1: the form and the version.


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\x08\x00\x80", b"[]", b"null", b"<html>", b"[" * 10**5]
)
def test_a_manifest_that_is_no_json_object_is_refused(folder: Path, text: bytes) -> None:
    (folder / "bundle.json").write_bytes(text)
    assert _refusal(folder).startswith("bundle.json is refused at its start: got ")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_schema_version_is_named_before_anything_it_may_have_changed(
    folder: Path, version: int
) -> None:
    data = json.loads((folder / "bundle.json").read_text())
    text = json.dumps({"schema_version": version, "jetlift": "9.9", "all": "new", "was": data})
    (folder / "bundle.json").write_text(text)
    message = _refusal_of_version(folder)
    assert f"schema version {version}" in message
    assert f"reads version {SCHEMA_VERSION}" in message
    assert "9.9" in message


def _refusal_of_version(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    return str(caught.value)


@pytest.mark.parametrize("version", ["1", None, [1], {}, 1.5])
def test_a_schema_version_that_is_no_number_is_refused(folder: Path, version: Any) -> None:
    _edit(folder, lambda data: data.update(schema_version=version))
    assert "schema_version" in _refusal(folder)


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_an_unknown_key_is_refused_by_name(folder: Path) -> None:
    _edit(folder, lambda data: data["parts"]["text"].update(colour="red"))
    message = _refusal(folder)
    assert "parts.text.colour" in message
    assert "an unknown key" in message


def test_a_missing_key_is_refused_by_name(folder: Path) -> None:
    _edit(folder, lambda data: data["parts"]["text"]["variants"]["int8"].pop("cost"))
    assert "parts.text.variants.int8.cost" in _refusal(folder)


def test_a_huge_manifest_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / "bundle.json").open("r+b") as handle:
        handle.truncate(2**36)  # a hole of 64 GiB: reading it would take the memory
    assert "more than any real one" in _refusal(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="is not a bundle") as caught:
            Bundle.open(place)
        assert caught.value.exit_code == 2


def test_a_file_or_a_pipe_is_no_bundle(folder: Path) -> None:
    with pytest.raises(InputError, match="is not a bundle"):
        Bundle.open(folder / "text.fp32.onnx")
    (folder / "bundle.json").unlink()
    os.mkfifo(folder / "bundle.json")
    with pytest.raises(InputError, match="is not a bundle"):
        Bundle.open(folder)


# B2: no path leaves the folder.

PATHS_OUT = [
    "../../x",
    "../x",
    "/etc/passwd",
    "assets/../../x",
    "assets/./x",
    "./x",
    "..",
    ".",
    "",
    "a//b",
    "a/",
    "~/x",
    "C:\\x",
    "a\\..\\b",
    ".hidden",
    "assets/.hidden",
    "a\nb",
    "a\0b",
    "x\n",
]


@pytest.mark.parametrize("path", PATHS_OUT)
def test_a_listed_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    _edit(folder, lambda data: data["files"][0].update(path=path))
    assert "files[0].path" in _refusal(folder)


@pytest.mark.parametrize("path", PATHS_OUT)
@pytest.mark.parametrize("key", ["file", "data_files", "tokenizer"])
def test_a_named_path_that_leaves_the_folder_is_refused(folder: Path, key: str, path: str) -> None:
    def change(data: dict[str, Any]) -> None:
        part = data["parts"]["text"]
        holder = part["preprocess"] if key == "tokenizer" else part["variants"]["int8"]
        holder[key] = [path] if key == "data_files" else path

    _edit(folder, change)
    assert key in _refusal(folder)


@pytest.mark.parametrize("name", ["../../../x", "/x", "..", "", "A", "x/y"])
def test_names_that_engine_files_carry_cannot_leave_the_folder(folder: Path, name: str) -> None:
    def rename(holder: dict[str, Any], old: str) -> None:
        holder[name] = holder.pop(old)

    text = (folder / "bundle.json").read_text()
    _edit(folder, lambda data: rename(data["parts"], "text"))
    assert "refused at parts: got the key" in _refusal(folder)
    (folder / "bundle.json").write_text(text)
    _edit(folder, lambda data: rename(data["parts"]["text"]["variants"], "int8"))
    assert "refused at parts.text.variants: got the key" in _refusal(folder)


@pytest.mark.parametrize("name", ["text.fp32.onnx", "assets/tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT[name])  # the very same content: only the place is wrong
    (folder / name).unlink()
    (folder / name).symlink_to(outside)
    assert f"a link that leaves it: {name}" in _refusal(folder)


def test_a_folder_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "assets").rename(tmp_path / "outside")
    (folder / "assets").symlink_to(tmp_path / "outside")
    assert "a link that leaves it: assets/tokenizer.json" in _refusal(folder)


def test_a_manifest_that_is_a_link_out_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "bundle.json").rename(tmp_path / "bundle.json")
    (folder / "bundle.json").symlink_to(tmp_path / "bundle.json")
    assert "a link that leaves it: bundle.json" in _refusal(folder)


def test_a_dangling_or_endless_link_is_refused(folder: Path) -> None:
    (folder / "text.fp32.onnx").unlink()
    (folder / "text.fp32.onnx").symlink_to("nowhere")
    assert "lacks text.fp32.onnx" in _refusal(folder)
    (folder / "text.fp32.onnx").unlink()
    (folder / "text.fp32.onnx").symlink_to("text.fp32.onnx")
    assert "lacks text.fp32.onnx" in _refusal(folder)


# B3: size and content.


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(CONTENT)),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_one_flipped_bit_anywhere_is_refused(
    folder: Path, name: str, place: float, bit: int
) -> None:
    path = folder / name
    content = bytearray(CONTENT[name])
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        assert f"an altered {name}" in _refusal(folder)
    finally:
        path.write_bytes(CONTENT[name])


@pytest.mark.parametrize("name", sorted(CONTENT))
@pytest.mark.parametrize("change", [b"", b"x", b"\0" * 10**6])
def test_another_size_is_refused(folder: Path, name: str, change: bytes) -> None:
    (folder / name).write_bytes(change)
    message = _refusal(folder)
    assert f"has {name} of {len(change)} bytes where {len(CONTENT[name])} were written" in message


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"lacks {name}" in _refusal(folder)


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "text.fp32.onnx").unlink()
    (folder / "text.fp32.onnx").mkdir()
    assert "lacks text.fp32.onnx" in _refusal(folder)


# B4 and B5: the list is complete, both ways.


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_named_file_must_be_listed(folder: Path, name: str) -> None:
    manifest = _manifest(folder)
    _write(folder, replace(manifest, files=tuple(f for f in manifest.files if f.path != name)))
    assert f"names {name} but does not list it" in _refusal(folder)


@pytest.mark.parametrize("name", ["extra.onnx", "assets/extra", "deep/er/extra", "bundle.json.bak"])
def test_a_file_that_is_not_listed_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")
    assert f"holds {name}, which its manifest does not list" in _refusal(folder)


def test_an_extra_link_is_refused(folder: Path) -> None:
    (folder / "extra").symlink_to("nowhere")
    assert "holds extra, which" in _refusal(folder)


# Making, and asking.


def test_listing_is_sorted_complete_and_true(folder: Path) -> None:
    entries = list_files(folder)
    assert [entry.path for entry in entries] == sorted(CONTENT)
    for entry in entries:
        content = CONTENT[entry.path]
        assert (entry.size_bytes, entry.sha256) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
        )


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_hashes_equal_hashlib_around_the_block_size(tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "x").write_bytes(content[:size])
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content[:size]).hexdigest()


def test_the_only_part_needs_no_name(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.part()[0] == "text"
    assert bundle.part("text") == bundle.part()


def test_an_unknown_part_or_precision_is_answered_with_the_known_ones(folder: Path) -> None:
    bundle = Bundle.open(folder)
    with pytest.raises(UnknownNameError, match=r"'image'.*One of text"):
        bundle.part("image")
    with pytest.raises(UnknownNameError, match=r"no fp16 variant.*One of fp32, int8"):
        bundle.variant("text", "fp16")
    assert bundle.path(bundle.variant("text", "int8").file).read_bytes() == b"narrow"


def test_of_several_parts_one_must_be_named(folder: Path) -> None:
    part = _part()
    _write(folder, replace(_manifest(folder), parts={"text": part, "other": part}))
    with pytest.raises(UnknownNameError, match="One of text, other"):
        Bundle.open(folder).part()


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_manifest_does_anything_but_read_or_be_refused(text: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(text)
