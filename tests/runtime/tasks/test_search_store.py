from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.search_index import directions, index_around
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime.errors import ArtefactError, InputError, StorageError
from jetlift.runtime.tasks import search_store
from jetlift.runtime.tasks.search_form import Entry
from jetlift.runtime.tasks.search_index import Index
from jetlift.runtime.tasks.search_store import Entries, line_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    index_around(directions(9, 8)).save(tmp_path / "index")
    return tmp_path / "index"


def test_what_is_written_is_read_back(folder):
    made, read = index_around(directions(9, 8)), Index.load(folder)
    np.testing.assert_array_equal(read.tables.vectors, made.tables.vectors)
    assert list(read.entries) == list(made.entries)
    assert read.tables.vectors.base is not None  # mapped, not copied
    assert (read.head.rows, read.head.dimensions, read.head.next_key) == (9, 8, 9)


@pytest.mark.parametrize("kind", ["vectors", "keys", "entries", "offsets"])
def test_every_flipped_byte_is_noticed(folder, kind):
    (path,) = folder.glob(f"{kind}-*")
    content = path.read_bytes()
    for offset in range(0, len(content), 13):
        spoilt = bytearray(content)
        spoilt[offset] ^= 0x10
        path.write_bytes(spoilt)
        with pytest.raises(ArtefactError, match="was altered"):
            Index.load(folder)
    path.write_bytes(content[:-1])
    with pytest.raises(ArtefactError, match="bytes, not"):
        Index.load(folder)
    path.unlink()
    with pytest.raises(ArtefactError, match="lacks"):
        Index.load(folder)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"schema_version": 2', '"schema_version": 1', "schema version is 1"),
        ("jetlift-search-index", "another-index", "kind"),
        ('"rows": 9', '"rows": 8', "do not fit"),
        ('"dimensions": 8', '"dimensions": 4', "do not fit"),
        ('"method": "exact"', '"method": "approximate"', "does not describe"),
        ('"name": "vectors-000000.f16"', '"name": "../vectors.f16"', "name"),
        ("{", "[", "JSON"),
    ],
)
def test_a_head_that_was_changed_is_refused(folder, old, new, told):
    path = folder / "head.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ArtefactError, match=told) as caught:
        Index.load(folder)
    assert caught.value.exit_code == 3


def test_what_is_no_index_is_said_to_be_none(tmp_path):
    with pytest.raises(InputError, match="no search index"):
        Index.load(tmp_path)
    (tmp_path / "old").write_bytes(b"PK")
    with pytest.raises(ArtefactError, match="it is a file"):
        Index.load(tmp_path / "old")
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "head.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ArtefactError, match="larger than any real one"):
        Index.load(tmp_path / "large")


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        index_around(directions(3, 4)).save(tmp_path / "file" / "index")
    with pytest.raises(InputError, match="exists already"):
        index_around(directions(3, 4)).save(tmp_path / "file")


def test_a_failed_write_leaves_nothing_new(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_arguments):
        raise OSError(28, "No space left on device", str(folder / "keys"))

    monkeypatch.setattr(search_store, "_dump", full)
    index = index_around(directions(4, 8))
    with pytest.raises(StorageError):
        search_store.write(
            folder, index.head.__class__(**{**vars(index.head), "update": 1}), index.tables, None
        )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_writers_are_one_too_many(folder):
    with (
        search_store.sole_writer(folder),
        pytest.raises(InputError, match="by another process"),
        search_store.sole_writer(folder),
    ):
        pass
    with search_store.sole_writer(folder):
        pass


def test_a_process_killed_outright_while_it_writes_leaves_the_old_index(folder):
    """A real process that stops where the new files lie and the head does not, and is killed."""
    code = """
import dataclasses, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from helpers.search_index import directions, index_around
from jetlift.runtime import atomic
from jetlift.runtime.tasks import search_store
def stop(*_):
    print("here", flush=True)
    time.sleep(600)
atomic.write_bytes = stop
index = index_around(directions(4, 8))
with search_store.sole_writer(Path(sys.argv[1])):
    head = dataclasses.replace(index.head, update=1)
    search_store.write(Path(sys.argv[1]), head, index.tables, None)
"""
    tests = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-P", "-c", code, str(folder), tests]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        os.kill(child.pid, signal.SIGKILL)
    assert list(folder.glob("vectors-000001*"))
    index = Index.load(folder)
    assert len(index) == 9
    with search_store.sole_writer(folder):  # the lock went with the process
        search_store.sweep(folder, index.head)
    assert not list(folder.glob("*-000001*"))
    assert len(Index.load(folder)) == 9


TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)


@given(st.lists(st.tuples(TEXTS, st.integers(0, 9), TEXTS), min_size=1, max_size=5))
def test_any_name_and_text_comes_back(rows):
    entries = [Entry(source, index, None, text) for source, index, text in rows]
    table = Entries.of([line_of(entry) for entry in entries])
    assert list(table) == entries
    assert all(line.count(b"\n") == 1 for line in map(table.line, range(len(table))))


def test_a_text_of_a_million_characters():
    entry = Entry("/a.txt", 0, None, "é" * 10**6)
    assert Entries.of([line_of(entry)])[0] == entry
    with pytest.raises(IndexError):
        Entries.of([line_of(entry)])[1]


def test_the_head_is_plain_json(folder):
    head = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    assert head["kind"] == "jetlift-search-index"
    assert set(head["files"]) == {"vectors", "keys", "entries", "offsets", "files"}
