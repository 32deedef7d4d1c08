from __future__ import annotations

import threading
from pathlib import Path

import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import BundleError, JetliftError, UsageError
from jetlift.runtime.load import LoadedTask, load
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.reloader import Reloader

LIMIT_S = 60.0  # ends a hang, and is no assertion


class Version(Closing):
    """One version of something."""

    def __init__(self, number: int) -> None:
        self.number, self.closed = number, 0

    def close(self) -> None:
        self.closed += 1


class Versions:
    """Loads one version after another and has one in place; may be held up or fail."""

    def __init__(self) -> None:
        self.made: list[Version] = []
        self.in_place = 0
        self.failure: JetliftError | None = None
        self.told: list[str] = []
        self.go, self.began = threading.Event(), threading.Event()
        self.go.set()

    def load(self) -> Version:
        self.began.set()
        assert self.go.wait(LIMIT_S)
        if self.failure is not None:
            raise self.failure
        self.made.append(Version(len(self.made) + 1))
        return self.made[-1]

    def put(self, version: Version) -> None:
        self.in_place = version.number

    def tell(self, error: JetliftError | None) -> None:
        self.told.append(str(error))

    def hold_up(self) -> None:
        self.go.clear()
        self.began.clear()


@pytest.fixture
def versions() -> Versions:
    return Versions()


def test_a_reload_is_done_by_another_thread(versions: Versions) -> None:
    with Reloader(versions.load, versions.put, versions.tell) as reloader:
        versions.hold_up()
        reloader.request()
        assert versions.began.wait(LIMIT_S)
        assert versions.in_place == 0  # and this thread works on
        versions.go.set()
        assert reloader.wait(LIMIT_S)
        assert (versions.in_place, versions.told) == (1, ["None"])
        assert (reloader.reloads, reloader.failures) == (1, 0)
        reloader.request()
        assert reloader.wait(LIMIT_S)
        assert versions.in_place == 2
    assert not [item for item in threading.enumerate() if item.name == "reload"]


def test_what_fails_leaves_the_old_one_and_is_told(versions: Versions) -> None:
    with Reloader(versions.load, versions.put, versions.tell) as reloader:
        versions.failure = BundleError("it was altered")
        reloader.request()
        assert reloader.wait(LIMIT_S)
        assert versions.in_place == 0
        versions.failure = None
        reloader.request()
        assert reloader.wait(LIMIT_S)
        assert versions.in_place == 1
    assert (reloader.reloads, reloader.failures) == (1, 1)
    assert versions.told == ["it was altered.", "None"]


def test_what_cannot_be_put_in_place_is_closed(versions: Versions) -> None:
    def refuse(_version: Version) -> None:
        raise UsageError("the holder is closed")

    with Reloader(versions.load, refuse, versions.tell) as reloader:
        reloader.request()
        assert reloader.wait(LIMIT_S)
    assert (reloader.reloads, reloader.failures) == (0, 1)
    assert [item.closed for item in versions.made] == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_while_loading_ends_nothing_but_that_reload(versions: Versions) -> None:
    faults = [KeyError("a fault of the program")]

    def load_one() -> Version:
        if faults:
            raise faults.pop()
        return versions.load()

    with Reloader(load_one, versions.put) as reloader:
        reloader.request()
        failing = [item for item in threading.enumerate() if item.name == "reload"]
        assert reloader.wait(LIMIT_S)
        reloader.request()
        assert reloader.wait(LIMIT_S)
        for thread in failing:
            thread.join(LIMIT_S)  # until its failure is reported
    assert versions.in_place == 1


def test_requests_meanwhile_become_one(versions: Versions) -> None:
    with Reloader(versions.load, versions.put) as reloader:
        versions.hold_up()
        reloader.request()
        assert versions.began.wait(LIMIT_S)
        for _ in range(5):
            reloader.request()
        versions.go.set()
        assert reloader.wait(LIMIT_S)
    assert versions.in_place == 2


def test_a_close_waits_for_what_is_opened(versions: Versions) -> None:
    reloader = Reloader(versions.load, versions.put)
    versions.hold_up()
    reloader.request()
    assert versions.began.wait(LIMIT_S)
    closing = threading.Thread(target=reloader.close)
    closing.start()
    versions.go.set()
    closing.join(LIMIT_S)
    assert not closing.is_alive()
    reloader.close()
    reloader.request()  # of no use any more
    assert (versions.in_place, len(versions.made)) == (1, 1)


# With real bundles, and the holder that a pipeline has.


def test_no_item_is_lost_while_a_bundle_is_reloaded_and_an_altered_one_is_not_taken(
    tmp_path: Path,
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", random=False)
    told: list[JetliftError | None] = []

    def open_it() -> LoadedTask:
        return load(bundle.folder, target="cpu", task="embed")

    first = open_it()
    holder = TaskHolder(first.task, first.close)
    with holder, Reloader(open_it, lambda it: holder.swap(it.task, it.close), told.append) as again:
        picture = first.item_of(_picture())
        done = 0
        for round_ in range(3):
            again.request()
            while not again.wait(0) or done <= round_:
                lease = holder.lease()
                assert lease.task.process(picture).fields["embedding"]
                lease.give_back()
                done += 1
        assert again.reloads == 3
        _alter(bundle.path(bundle.manifest.files[0].path))
        again.request()
        assert again.wait(LIMIT_S)
        assert holder.lease().task.process(picture).fields["embedding"]
    assert (again.reloads, again.failures) == (3, 1)
    assert told[:3] == [None] * 3
    assert isinstance(told[3], BundleError)


def _picture():
    import numpy as np

    return np.full((40, 50, 3), 90, np.uint8)


def _alter(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
