from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.house import ROOT, clean_environment

from jetlift.runtime.clock import FakeClock
from jetlift.runtime.errors import InputError, JetliftError, UsageError
from jetlift.runtime.logs import JsonLines
from jetlift.runtime.notify import Notifier, Watchdog
from jetlift.runtime.service import Service
from jetlift.runtime.signals import Signals

LIMIT_S = 60.0  # ends a hang, and is no assertion
CHILD = ROOT / "tests" / "helpers" / "service_child.py"
UNIT = ROOT / "jetson" / "jetlift@.service"


class Manager:
    """The receiving end: a real datagram socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self.socket.settimeout(LIMIT_S)
        self.environment = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def heard_until(self, line: str) -> list[str]:
        every: list[str] = []
        while line not in every:
            every += self.heard()
        return every


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@jetlift-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify"
    found = Manager(name)
    yield found
    found.socket.close()


# What the manager is told.


def test_the_manager_hears_every_state(manager: Manager) -> None:
    with Notifier(manager.environment) as notifier:
        notifier.ready("at work")
        assert manager.heard() == ["READY=1", "STATUS=at work"]
        notifier.status("29.8 per second\nREADY=1")
        assert manager.heard() == ["STATUS=29.8 per second READY=1"]
        notifier.reloading()
        first, moment = manager.heard()
        assert first == "RELOADING=1"
        assert moment.removeprefix("MONOTONIC_USEC=").isdigit()
        notifier.extend_start(2.5)
        assert manager.heard() == ["EXTEND_TIMEOUT_USEC=2500000"]
        notifier.alive()
        assert manager.heard() == ["WATCHDOG=1"]
        notifier.stopping()
        assert manager.heard() == ["STOPPING=1"]
        notifier.status("")  # nothing to say, so nothing is said
        assert (notifier.lost, notifier.trouble) == (0, "")


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_without_a_manager_nothing_is_sent_and_nothing_fails(address: str) -> None:
    with Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"}) as notifier:
        assert not notifier.connected
        assert notifier.watchdog_s is None
        notifier.ready("at work")
        assert notifier.lost == 0


def test_a_manager_that_is_gone_is_counted(tmp_path: Path) -> None:
    with Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
        notifier.ready()
        notifier.alive()
        assert notifier.lost == 2
        assert "was not told: No such file" in notifier.trouble
    notifier.ready()  # closed: says nothing more
    assert notifier.lost == 2


def test_a_manager_that_does_not_read_holds_nobody_up(manager: Manager) -> None:
    manager.socket.settimeout(None)
    with Notifier(manager.environment) as notifier:
        while not notifier.lost:  # until its queue is full, and the patience is over
            notifier.status("x" * 1000)
        assert "was not told" in notifier.trouble


# The watchdog.


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_whom_the_watchdog_is_for(told: dict[str, str], expected: float | None) -> None:
    with Notifier({"NOTIFY_SOCKET": "@nobody", **told}) as notifier:
        assert notifier.watchdog_s == expected


def test_the_watchdog_is_fed_at_half_its_time_while_work_goes_on(manager: Manager) -> None:
    clock, answers = FakeClock(), iter([True, True, False, True])
    stop = threading.Event()

    def alive() -> bool:
        answer = next(answers, None)
        if answer is None:
            stop.set()
            raise InputError("the camera was unplugged")
        return answer

    with Notifier(manager.environment | {"WATCHDOG_USEC": "2000000"}) as notifier:
        watchdog = Watchdog(notifier, alive, clock)
        assert stop.wait(LIMIT_S)
        watchdog.close()
        assert set(clock.waited_s) == {1.0}
        assert watchdog.trouble.startswith("the camera was unplugged")
        notifier.stopping()
        assert manager.heard_until("STOPPING=1") == ["WATCHDOG=1"] * 3 + ["STOPPING=1"]


def test_the_watchdog_s_thread_ends_while_it_waits(manager: Manager) -> None:
    with Notifier(manager.environment | {"WATCHDOG_USEC": "7200000000"}) as notifier:
        watchdog = Watchdog(notifier, lambda: True)
        assert manager.heard() == ["WATCHDOG=1"]
        watchdog.close()
        watchdog.close()
        assert not [item for item in threading.enumerate() if item.name == "watchdog"]


def test_a_slow_answer_feeds_late_and_a_close_waits_for_it(manager: Manager) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> bool:
        asked.set()
        assert go.wait(LIMIT_S)
        return True

    with Notifier(manager.environment | {"WATCHDOG_USEC": "1000"}) as notifier:
        watchdog = Watchdog(notifier, slow)
        assert asked.wait(LIMIT_S)
        go.set()
        assert manager.heard() == ["WATCHDOG=1"]
        watchdog.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_the_question_feeds_no_more(manager: Manager) -> None:
    def fault() -> bool:
        raise KeyError("a fault of the program")

    with Notifier(manager.environment | {"WATCHDOG_USEC": "1000"}) as notifier:
        Watchdog(notifier, fault).close()
        notifier.stopping()
        assert manager.heard() == ["STOPPING=1"]


def test_without_a_manager_the_watchdog_has_no_thread() -> None:
    with Notifier({}) as notifier:
        before = threading.active_count()
        watchdog = Watchdog(notifier, lambda: True)
        assert threading.active_count() == before
        assert watchdog.beat()
        watchdog.close()


# Signals to this process.


def test_signals_are_put_back() -> None:
    before = [signal.getsignal(item) for item in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with Signals(lambda: None, lambda: None) as signals:
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        os.kill(os.getpid(), signal.SIGHUP)  # nothing to reload, so nothing happens
    after = [signal.getsignal(item) for item in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    assert after == before
    assert not signals.draining
    signals.close()
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_that_come_while_a_lock_is_held_lock_nothing() -> None:
    drained, stopped = threading.Event(), threading.Event()
    with Signals(drained.set, stopped.set) as signals:
        with drained._cond:  # what a handler in this very thread could never take
            os.kill(os.getpid(), signal.SIGTERM)
        assert drained.wait(LIMIT_S)
        assert signals.draining
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(LIMIT_S)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_call_that_fails_leaves_the_next_signal_its_effect() -> None:
    stopped = threading.Event()

    def fail() -> None:
        raise KeyError("a fault of the program")

    with Signals(fail, stopped.set):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(LIMIT_S)


def test_only_the_main_thread_takes_signals() -> None:
    caught: list[BaseException] = []

    def enter() -> None:
        try:
            Signals(lambda: None, lambda: None).__enter__()
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


# Signals to a real service.


class Child:
    """A real process with a real manager's socket."""

    def __init__(self, manager: Manager, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), *arguments],
            env={**clean_environment(), **manager.environment, "WATCHDOG_USEC": "50000"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.manager = manager

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> list[dict[str, object]]:
        """Its log, once it has ended well."""
        out, log = self.process.communicate(timeout=LIMIT_S)
        assert out.strip().splitlines()[-1:] == ["left"]
        assert self.process.returncode == 0
        return [json.loads(line) for line in log.splitlines()]


@pytest.fixture
def start(manager: Manager) -> Iterator[object]:
    children: list[Child] = []

    def begin(*arguments: str) -> Child:
        children.append(Child(manager, *arguments))
        return children[-1]

    yield begin
    for child in children:
        child.process.kill()
        child.process.communicate()


@pytest.mark.parametrize("kind", ["idle", "busy"])
def test_a_service_drains_then_stops(manager: Manager, start, kind: str) -> None:
    child = start(kind)
    assert "STATUS=at work" in manager.heard_until("READY=1")
    child.signal(signal.SIGTERM)
    assert child.said() == "drain"
    assert "STATUS=finishing what is under way" in manager.heard_until("STOPPING=1")
    child.signal(signal.SIGINT)
    assert child.said() == "stop"
    events = [line["event"] for line in child.ends()]
    assert events == ["starting", "ready", "draining", "stopping at once"]


@pytest.mark.parametrize("failing", [(), ("failing",)])
def test_a_service_reloads_on_sighup(manager: Manager, start, failing: tuple[str, ...]) -> None:
    child = start("idle", *failing)
    manager.heard_until("READY=1")
    child.signal(signal.SIGHUP)
    assert child.said() == "reload"
    heard = manager.heard_until("RELOADING=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in heard)
    manager.heard_until("READY=1")
    for _ in range(2):
        child.signal(signal.SIGTERM)
        child.said()
    log = child.ends()
    told = [line for line in log if line["event"] == "reloaded" or "reason" in line]
    assert [line["level"] for line in told] == (["error"] if failing else ["info"])


def test_a_run_that_fails_is_logged(capsys: pytest.CaptureFixture[str], manager: Manager) -> None:
    log = JsonLines(sys.stderr)
    with (
        pytest.raises(JetliftError),
        Service(
            log, drain=lambda: None, stop=lambda: None, alive=lambda: True,
            notifier=Notifier(manager.environment),
        ) as service,
    ):  # fmt: skip
        service.status("soon")
        os.kill(os.getpid(), signal.SIGHUP)
        manager.heard_until("READY=1")  # there is nothing to reload, and the manager hears it
        raise InputError("the camera was unplugged")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1]["event"] == "failed"
    assert lines[-1]["kind"] == "InputError"
    assert not service.draining
    assert manager.heard_until("STOPPING=1")


# The unit.


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("wrong", ["", "NoSuchKey=1\n"])
def test_systemd_takes_the_unit(tmp_path: Path, wrong: str) -> None:
    # The command of the unit is where it is to be installed; here another stands for it.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/jetlift/bin/jetlift", "/bin/true")
    path = tmp_path / "jetlift@door.service"
    path.write_text(text.replace("[Install]", f"{wrong}\n[Install]"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "jetlift@door" in line]
    if wrong:
        assert "NoSuchKey" in "".join(ours)
    else:
        assert (done.returncode, ours) == (0, [])


def test_the_unit_leaves_cameras_and_the_gpu_open() -> None:
    keys = dict(
        line.split("=", 1)
        for line in UNIT.read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert not keys.keys() & {
        "PrivateTmp", "DynamicUser", "PrivateDevices", "DeviceAllow", "DevicePolicy",
        "ProtectClock", "MemoryDenyWriteExecute",
    }  # fmt: skip
    assert keys["SupplementaryGroups"] == "video render"
    assert (keys["Type"], keys["KillMode"]) == ("notify", "mixed")
    assert keys["ExecReload"] == "/bin/kill -HUP $MAINPID"
