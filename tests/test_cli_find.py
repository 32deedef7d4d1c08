"""The door for search: index, its updates, queries by picture and by words, the page."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.words_bundle import classes_bundle, words_bundle

from jetlift.__main__ import run
from jetlift.runtime.tasks import search_build, search_store
from jetlift.runtime.tasks.search_index import Index

pytest.importorskip("openvino")
pytest.importorskip("tokenizers")

COLOURS = {"red": (20, 20, 230), "green": (20, 230, 20), "blue": (230, 20, 20)}


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle").folder


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in COLOURS.items():
        paint(folder / f"{name}.png", colour)
    return folder


def paint(path: Path, colour, size=(40, 50)) -> None:
    cv2.imwrite(str(path), np.full((*size, 3), colour, np.uint8))


def shown(capsys, *arguments: object) -> str:
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out + captured.err


def refused(capsys, code: int, *arguments: object) -> str:
    assert run([str(argument) for argument in arguments]) == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("jetlift: "), told
    return told


def found(capsys, *arguments: object) -> dict:
    assert run(["search", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def names(index: Path) -> list[str]:
    return [Path(entry.source).name for entry in Index.load(index).entries]


def test_an_update_encodes_what_is_new_or_changed_and_nothing_else(
    capsys, words, pictures, tmp_path, monkeypatch
):
    out = tmp_path / "i.index"
    shown(capsys, "index", words, pictures, "-o", out)
    encoded: list[str] = []
    plain = search_build.encode_all

    def watched(encoder, source, progress=None):
        def seen():
            for item in source:
                encoded.append(Path(item.source).name)
                yield item

        return plain(encoder, seen(), progress)

    monkeypatch.setattr(search_build, "encode_all", watched)
    told = shown(capsys, "index", words, pictures, "-o", out, "--update")
    assert "0 files new, 0 changed, 0 gone, 3 kept" in told
    assert encoded == []
    paint(pictures / "white.png", (250, 250, 250))
    paint(pictures / "blue.png", (200, 80, 10), (60, 60))
    (pictures / "green.png").unlink()
    told = shown(capsys, "index", words, pictures, "-o", out, "--add")
    assert "1 files new, 1 changed, 1 gone, 1 kept. 3 entries" in told
    assert sorted(encoded) == ["blue.png", "white.png"]
    assert sorted(names(out)) == ["blue.png", "red.png", "white.png"]
    for name in ("blue", "white", "red"):
        best = found(capsys, out, pictures / f"{name}.png")["hits"][0]
        assert (Path(best["source"]).name, best["score"]) == (f"{name}.png", pytest.approx(1))
    assert sorted(path.name.split("-")[0] for path in out.iterdir()) == [
        ".lock", "entries", "files", "head.json", "keys", "offsets", "vectors",
    ]  # fmt: skip


def test_a_touched_file_is_changed_and_another_folder_keeps_the_first(
    capsys, words, pictures, tmp_path
):
    out, more = tmp_path / "i.index", tmp_path / "more"
    shown(capsys, "index", words, pictures, "-o", out)
    os.utime(pictures / "red.png", ns=(1, 1))
    more.mkdir()
    paint(more / "grey.png", (99, 99, 99), (1, 1))
    told = shown(capsys, "index", words, pictures, more, "-o", out, "--update")
    assert "1 files new, 1 changed, 0 gone, 2 kept. 4 entries" in told
    shown(capsys, "index", words, more, "-o", out, "--update")
    assert sorted(names(out)) == ["blue.png", "green.png", "grey.png", "red.png"]


def test_an_emptied_folder_and_an_unreadable_file(capsys, words, pictures, tmp_path):
    out = tmp_path / "i.index"
    (pictures / "broken.png").write_bytes(b"no picture")
    told = shown(capsys, "index", words, pictures, "-o", out)
    assert "broken.png" in told
    told = shown(capsys, "index", words, pictures, "-o", out, "--update")
    assert "Skipped" in told
    assert "3 entries" in told
    for path in pictures.iterdir():
        path.unlink()
    before = names(out)
    assert "nothing left" in refused(capsys, 2, "index", words, pictures, "-o", out, "--update")
    assert names(out) == before
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no pictures" in refused(capsys, 2, "index", words, empty, "-o", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_killed_update_leaves_the_old_index_whole(capsys, words, pictures, tmp_path, monkeypatch):
    out = tmp_path / "i.index"
    shown(capsys, "index", words, pictures, "-o", out)
    paint(pictures / "white.png", (250, 250, 250))

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(search_store.atomic, "write_bytes", killed)
        assert run(["index", str(words), str(pictures), "-o", str(out), "--update"]) != 0
    capsys.readouterr()
    assert sorted(names(out)) == ["blue.png", "green.png", "red.png"]
    (out / "vectors-000001.f16").write_bytes(b"left by a process that was killed outright")
    assert len(Index.load(out)) == 3
    shown(capsys, "index", words, pictures, "-o", out, "--update")
    assert len(names(out)) == 4


def test_pictures_are_found_by_words(capsys, words, pictures, tmp_path):
    out = tmp_path / "i.index"
    shown(capsys, "index", words, pictures, "-o", out)
    line = found(capsys, out, "a red tractor")
    assert line["query"] == "a red tractor"
    assert len(line["hits"]) == 3
    assert found(capsys, out, "--text", "a red tractor")["hits"] == line["hits"]
    listed = tmp_path / "words.txt"
    listed.write_text("a red tractor\n")
    assert found(capsys, out, listed)["hits"] == line["hits"]
    assert found(capsys, out, "--text", listed)["hits"] == line["hits"]
    assert found(capsys, out, "--text", "tractor", "--top-k", 1)["query"] == "tractor"


def test_texts_are_found_by_texts_and_by_a_picture(capsys, words, pictures, tmp_path):
    listed, out = tmp_path / "t.txt", tmp_path / "t.index"
    listed.write_text("a dog\n\n猫です\na goat\n", encoding="utf-8")
    shown(capsys, "index", words, listed, "-o", out, "--part", "text")
    best = found(capsys, out, "猫です")["hits"][0]
    assert (best["text"], best["index"], best["score"]) == ("猫です", 2, pytest.approx(1))
    assert len(found(capsys, out, pictures / "red.png")["hits"]) == 3
    listed.write_text("a dog\n")
    told = shown(capsys, "index", words, listed, "-o", out, "--update")
    assert "1 changed" in told
    assert len(Index.load(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Nothing to look for"),
        (("tractor",), "--text tractor"),
        (("red.png", "a red one"), "pictures and texts"),
        (("--text", " "), "blank text"),
        (("--text", "x" * 99), "longer than the 24 tokens"),
        (("no/such.png",), "does not exist"),
    ],
)
def test_queries_that_cannot_be_used(
    capsys, words, pictures, tmp_path, monkeypatch, arguments, told
):
    out = tmp_path / "i.index"
    shown(capsys, "index", words, pictures, "-o", out)
    monkeypatch.chdir(pictures)
    assert told in refused(capsys, 2, "search", out, *arguments)


def test_a_model_of_pictures_alone_says_so(capsys, pictures, tmp_path):
    from helpers.tiny_bundle import tiny_bundle

    bundle = tiny_bundle(tmp_path / "tiny", precisions=("fp32",), random=False).folder
    out = tmp_path / "i.index"
    shown(capsys, "index", bundle, pictures, "-o", out, "--part", "image")
    told = refused(capsys, 2, "search", out, "a red tractor")
    assert "cannot compare these with words" in told
    assert "clip-vit-b32" in told


def test_what_is_there_or_of_another_bundle_is_refused(capsys, words, pictures, tmp_path):
    out = tmp_path / "i.index"
    shown(capsys, "index", words, pictures, "-o", out)
    assert "--update" in refused(capsys, 2, "index", words, pictures, "-o", out)
    other = classes_bundle(tmp_path / "classes").folder
    assert "another bundle" in refused(capsys, 3, "index", other, pictures, "-o", out, "--update")
    assert "--method best" in refused(
        capsys, 2, "index", words, pictures, "-o", tmp_path / "x", "--method", "best"
    )
    assert "which is no file" in refused(capsys, 2, "index", words, "-", "-o", out, "--update")
    refused(capsys, 2, "index", words, pictures, "-o", tmp_path / "none", "--update")
    victim = next(out.glob("vectors-*"))
    content = bytearray(victim.read_bytes())
    content[3] ^= 1
    victim.write_bytes(content)
    assert "was altered" in refused(capsys, 3, "search", out, pictures / "red.png")


def test_an_approximate_index_is_updated_too(capsys, words, pictures, tmp_path):
    pytest.importorskip("faiss")
    out = tmp_path / "i.index"
    told = shown(capsys, "index", words, pictures, "-o", out, "--method", "approximate")
    assert "Approximate search" in told
    (pictures / "red.png").unlink()
    paint(pictures / "new.png", (7, 120, 120))
    shown(capsys, "index", words, pictures, "-o", out, "--update")
    assert sorted(names(out)) == ["blue.png", "green.png", "new.png"]
    assert found(capsys, out, pictures / "new.png")["hits"][0]["score"] == pytest.approx(1)
    assert len(found(capsys, out, "a red tractor")["hits"]) == 3
    shown(capsys, "index", words, pictures, "-o", out, "--update", "--method", "exact")
    assert Index.load(out).head.method == "exact"


def test_the_page_lies_beside_the_results(capsys, words, pictures, tmp_path):
    odd = pictures / "<b>&'\".png"
    shutil.copy(pictures / "red.png", odd)
    out = tmp_path / "i.index"
    shown(capsys, "index", words, pictures, "-o", out)
    shown(capsys, "search", out, odd, pictures / "blue.png", "-o", tmp_path / "found")
    page = (tmp_path / "found" / "index.html").read_text(encoding="utf-8")
    assert len((tmp_path / "found" / "results.jsonl").read_text().splitlines()) == 2
    assert page.count("<section") == 2
    assert page.count("<img") == 2 * (1 + 4)
    assert "<b>&'" not in page
    assert "&lt;b&gt;&amp;&#x27;&quot;.png" in page
