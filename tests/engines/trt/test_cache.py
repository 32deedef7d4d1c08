"""The timing cache: where it lies, what it is kept for, and what becomes of a damaged one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.engines.trt import cache
from jetlift.runtime.errors import StorageError


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"HOME": "/h"}, "linux", "/h/.cache/jetlift/timing"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "linux", "/x/jetlift/timing"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "linux", "/h/.cache/jetlift/timing"),
        ({"HOME": "/h"}, "darwin", "/h/Library/Caches/jetlift/timing"),
        ({"LOCALAPPDATA": "/l", "USERPROFILE": "/u"}, "win32", "/l/jetlift/timing"),
        ({"USERPROFILE": "/u"}, "win32", "/u/AppData/Local/jetlift/timing"),
    ],
)
def test_it_lies_where_the_system_keeps_caches(
    environment: dict[str, str], platform: str, expected: str
) -> None:
    assert cache.user_folder(environment, platform) == Path(expected)


def test_its_name_is_a_file_name_that_tells_all_it_depends_on() -> None:
    found = cache.name_of("tensorrt", "10.3.0", "8.7", "orin-nano-8gb MAXN_SUPER")
    assert found == "tensorrt_10.3.0_sm87_orin-nano-8gb-maxn-super"


@settings(deadline=None)
@given(st.text(), st.text(min_size=1))
def test_a_device_of_any_name_makes_one_file_name(device: str, version: str) -> None:
    assert "/" not in cache.name_of("tensorrt", version, "8.7", device)
    assert "\0" not in cache.name_of("tensorrt", version, "8.7", device)


def test_none_is_there_at_first(tmp_path: Path) -> None:
    found = cache.find(tmp_path / "none", "own")
    assert (found.sha256, found.notice) == (None, "")


def test_what_is_kept_is_found_with_its_hash(tmp_path: Path) -> None:
    path = cache.find(tmp_path / "new folder", "own").path
    digest = cache.keep(path, b"timings")
    assert digest == hashlib.sha256(b"timings").hexdigest()
    assert cache.find(tmp_path / "new folder", "own") == cache.TimingCache(path, digest, "")
    assert path.read_bytes() == b"timings"  # plain, as trtexec --timingCacheFile takes it


def test_a_cache_from_elsewhere_without_a_hash_is_taken(tmp_path: Path) -> None:
    (tmp_path / "own.cache").write_bytes(b"made by trtexec")
    assert cache.find(tmp_path, "own").sha256 == hashlib.sha256(b"made by trtexec").hexdigest()


@pytest.mark.parametrize("content", [b"", b"timing", b"timings and more", b"gnimits"])
def test_a_damaged_one_is_set_aside_and_told(tmp_path: Path, content: bytes) -> None:
    path = cache.find(tmp_path, "own").path
    cache.keep(path, b"timings")
    path.write_bytes(content)
    found = cache.find(tmp_path, "own")
    assert found.sha256 is None
    assert "own.cache is damaged and was set aside as own.cache.damaged" in found.notice
    assert (tmp_path / "own.cache.damaged").read_bytes() == content
    assert not path.exists()
    cache.keep(path, b"timings")
    assert cache.find(tmp_path, "own").notice == ""


def test_killed_between_cache_and_hash_it_is_not_trusted(tmp_path: Path) -> None:
    path = cache.find(tmp_path, "own").path
    cache.keep(path, b"old")
    path.write_bytes(b"new")  # as the rename of the cache leaves it, the hash being the old one's
    assert cache.find(tmp_path, "own").sha256 is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_refuses_the_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        cache.keep(tmp_path / "own.cache", b"timings")
