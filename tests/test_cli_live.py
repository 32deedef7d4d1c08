"""The door for live runs: cameras, sinks, records, budgets, signals, the live page."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.open_bundle import open_bundle
from helpers.words_bundle import words_bundle

from jetlift.__main__ import run
from jetlift.cli import running
from jetlift.cli.asked import Asked, LiveWords
from jetlift.cli.live import Live
from jetlift.cli.running import Run
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import BusyError
from jetlift.runtime.opening import Engines, compute_prompts
from jetlift.runtime.tasks.classify import ClassifyTask
from jetlift.runtime.view.form import Prompting

pytest.importorskip("openvino")
pytest.importorskip("tokenizers")

CAMERA = "synthetic://160x120@30"
WORDS = ("--prompt", "a", "--prompt", "b")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_bundle(tmp_path_factory.mktemp("open") / "bundle").folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle").folder


def answered(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> tuple[str, str]:
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert not [item for item in threading.enumerate() if item.name.startswith("jetlift ")]
    return captured.out, captured.err


def video(path: Path, frames: int = 12) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number * 20 % 256, np.uint8))
    writer.release()
    return path


def test_a_camera_gives_a_line_per_frame_and_ends_with_its_limit(
    capsys: pytest.CaptureFixture[str], words: Path
) -> None:
    given = ("run", words, CAMERA, *WORDS, "--limit", 5)
    out, told = answered(capsys, 0, *given)
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 5
    indices = [line["index"] for line in lines]
    assert indices == sorted(set(indices))
    assert {line["source"] for line in lines} == {CAMERA}
    assert "frames were" in told  # ages are told at the end


def test_a_run_becomes_a_record_and_a_report(
    capsys: pytest.CaptureFixture[str], words: Path, tmp_path: Path
) -> None:
    shots, kept, report = video(tmp_path / "v.mp4"), tmp_path / "kept", tmp_path / "report"
    given = ("run", words, shots, *WORDS, "-o", tmp_path / "out", "--record", kept)
    answered(capsys, 0, *given)
    record = json.loads((kept / "record.json").read_text())
    assert record["run"]["done"] == 12
    assert record["run"]["sources"][0]["captured"] == 12
    assert [stage["name"] for stage in record["run"]["stages"]] == [
        "capture", "prepare", "infer", "finish", "draw", "sink",
    ]  # fmt: skip
    assert str(tmp_path) not in json.dumps(record)
    out, _ = answered(capsys, 0, "report", kept)
    assert "12" in out
    answered(capsys, 0, "report", kept, "-o", report)
    assert (report / "report.html").is_file()
    out, _ = answered(capsys, 0, "report", kept, "--json")
    assert json.loads(out) == record
    _, told = answered(capsys, 2, "report", tmp_path / "none")
    assert "none" in told


@pytest.mark.parametrize(("limit", "code"), [(1e9, 0), (1e-9, 1)])
def test_a_budget_is_the_exit_code(
    capsys: pytest.CaptureFixture[str], words: Path, tmp_path: Path, limit: float, code: int
) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text(f'[budget]\nname = "b"\n[limits]\nlatency_p50_ms = {limit}\n')
    shots = video(tmp_path / "v.mp4")
    given = ("run", words, shots, *WORDS, "--budget", budget, "-o", tmp_path / "out")
    _, told = answered(capsys, code, *given)
    assert "Budget b" in told
    assert ("is not met: latency_p50_ms missed" in told) == (code == 1)
    assert (tmp_path / "out" / "results.jsonl").is_file()  # the run itself went well


def test_a_budget_that_cannot_be_read_is_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str], words: Path, tmp_path: Path
) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text('[budget]\nname = "b"\n[limits]\nlatency_p50_s = 1\n')
    out, told = answered(capsys, 2, "run", words, CAMERA, *WORDS, "--budget", budget)
    assert out == ""
    assert "the unit is ms, not s" in told


def test_results_go_to_several_places(
    capsys: pytest.CaptureFixture[str], words: Path, tmp_path: Path
) -> None:
    lines, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    given = ("run", words, video(tmp_path / "v.mp4"), *WORDS, "--to", lines, "--to", table)
    out, _ = answered(capsys, 0, *given)
    assert out == ""
    assert len(lines.read_text().splitlines()) == 12
    assert len(table.read_text().splitlines()) == 13
    _, told = answered(capsys, 2, *given[:3], *WORDS, "--to", "results.pdf")
    assert "results.pdf" in told


@pytest.mark.parametrize("to", ["out.unknown", "mqtt://", "out.csv#nothing=3"])
def test_where_results_cannot_go_is_told_before_an_engine_is_loaded(
    capsys: pytest.CaptureFixture[str],
    words: Path,
    to: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> None:
        pytest.fail("an engine was loaded")

    monkeypatch.setattr(running, "open_task_of", never)
    _, told = answered(capsys, 2, "run", words, CAMERA, *WORDS, "--limit", 1, "--to", to)
    assert to.split("#", maxsplit=1)[0] in told


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_place_where_no_folder_can_be_made_is_told(
    capsys: pytest.CaptureFixture[str], words: Path
) -> None:
    given = ("run", words, CAMERA, *WORDS, "--limit", 1, "--to")
    for place in ("/proc/nowhere/out.jsonl", "/proc/nowhere/", "/proc/nowhere/out.mp4"):
        _, told = answered(capsys, 4, *given, place)
        assert "cannot be made" in told, place


def test_a_task_that_hangs_is_ended_and_named(
    capsys: pytest.CaptureFixture[str], words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = threading.Event()

    def stuck(*_: object) -> None:
        freed.wait(PATIENCE_S)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "finish", stuck)
        given = ("run", words, CAMERA, *WORDS, "--limit", 3, "--hang-limit", 0.3)
        threading.Timer(1.0, freed.set).start()
        _, told = answered(capsys, 4, *given)
    assert "finish" in told
    assert "more than 0.3 s" in told


def test_a_text_is_recorded_too(
    capsys: pytest.CaptureFixture[str], words: Path, tmp_path: Path
) -> None:
    kept, out = tmp_path / "kept", tmp_path / "out"
    given = ("--task", "embed", "--part", "text", "--record", kept, "-o", out)
    answered(capsys, 0, "run", words, "a dog", *given)
    record = json.loads((kept / "record.json").read_text())
    assert (record["run"]["done"], record["results"][0]["part"]) == (1, "text")


def test_an_unknown_kind_of_log_is_refused(capsys: pytest.CaptureFixture[str], words: Path) -> None:
    _, told = answered(capsys, 2, "run", words, CAMERA, *WORDS, "--log", "xml")
    assert "--log xml" in told


class Child:
    """A run in a process of its own."""

    def __init__(self, *arguments: object, notify: Path | None = None) -> None:
        given = {} if notify is None else {"NOTIFY_SOCKET": str(notify)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jetlift", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONSAFEPATH": "1"} | given,
        )  # fmt: skip
        self.told: list[str] = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            with self._heard:
                self.told.append(line)
                self._heard.notify_all()

    def hear(self, word: str) -> str:
        """Wait until it says a line with this word."""
        with self._heard:
            found = self._heard.wait_for(
                lambda: next((line for line in self.told if word in line), None), PATIENCE_S
            )
        assert found, "".join(self.told)
        return found

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit code and standard output."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)  # standard error is its alone: nothing of it goes elsewhere
        return code, out


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdout, child.process.stderr):
            if pipe is not None:
                pipe.close()


def test_a_terminated_run_finishes_its_results(
    words: Path, tmp_path: Path, children: list[Child]
) -> None:
    lines = tmp_path / "r.jsonl"
    given = ("run", words, CAMERA, *WORDS, "--to", lines, "--log", "json")
    child = Child(*given)
    children.append(child)
    child.hear('"ready"')
    partial = Path(f"{lines}.partial")
    deadline = time.monotonic() + PATIENCE_S
    while not (partial.is_file() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.process.send_signal(signal.SIGTERM)
    code, _ = child.end()
    assert code == 0, "".join(child.told)
    assert any('"draining"' in line for line in child.told)
    assert lines.is_file()
    assert not partial.exists()


def test_a_hangup_opens_the_bundle_again(
    words: Path, tmp_path: Path, children: list[Child]
) -> None:
    child = Child("run", words, CAMERA, *WORDS, "--to", tmp_path / "r.jsonl",
                  "--log", "json")  # fmt: skip
    children.append(child)
    child.hear('"ready"')
    child.process.send_signal(signal.SIGHUP)
    child.hear('"reloaded"')
    child.process.send_signal(signal.SIGINT)
    assert child.end()[0] == 0


def test_a_service_manager_is_told(words: Path, tmp_path: Path, children: list[Child]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        child = Child("run", words, CAMERA, *WORDS, "--to", tmp_path / "r.jsonl",
                      notify=tmp_path / "notify")  # fmt: skip
        children.append(child)
        heard = ""
        while "READY=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        assert "loading engines" in heard
        child.process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard += manager.recv(4096).decode() + "\n"
        assert child.end()[0] == 0


def wait_for(text: str, path: Path) -> None:
    """Wait until a file that is being written holds a text."""
    deadline = time.monotonic() + PATIENCE_S
    while not (path.is_file() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} never held {text}"
        time.sleep(0.02)


def test_words_are_changed_on_the_live_page(
    detector: Path, tmp_path: Path, children: list[Child]
) -> None:
    pytest.importorskip("uvicorn")
    child = Child("run", detector, CAMERA, "--prompt", "dog", "--view-at", "127.0.0.1:0",
                  "--to", tmp_path / "r.jsonl")  # fmt: skip
    children.append(child)
    url = child.hear("Live view: ").split()[-1].rstrip("/")
    partial = tmp_path / "r.jsonl.partial"
    wait_for('"dog"', partial)
    body = json.dumps({"prompts": ["ear tag"]}).encode()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    with closing(connection):
        given = {"Content-Type": "application/json", "Origin": url}
        connection.request("POST", "/api/prompts", body, given)
        assert connection.getresponse().status == 200
    wait_for('"ear tag"', partial)
    child.process.send_signal(signal.SIGTERM)
    assert child.end()[0] == 0, "".join(child.told)
    labels = [label for line in (tmp_path / "r.jsonl").read_text().splitlines()
              for label in json.loads(line)["labels"]]  # fmt: skip
    assert set(labels) == {"dog", "ear tag"}
    assert labels == sorted(labels)  # never back to the old words


def test_a_reader_that_leaves_early_is_no_fault(words: Path, tmp_path: Path) -> None:
    given = ["run", str(words), str(video(tmp_path / "v.mp4", 200)), *WORDS]
    with subprocess.Popen(
        [sys.executable, "-m", "jetlift", *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONSAFEPATH": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["index"] == 0
        process.stdout.close()
        told = process.stderr.read()
        process.wait(PATIENCE_S)
    assert "fault" not in told
    assert "sink" not in told


@pytest.mark.parametrize(("source", "signals"), [("file", 1), ("camera", 2)])
def test_a_run_that_is_ended_at_once_leaves_nothing_that_looks_finished(
    words: Path, tmp_path: Path, children: list[Child], source: str, signals: int
) -> None:
    given = CAMERA if source == "camera" else video(tmp_path / "v.mp4", 20_000)
    child = Child("run", words, given, *WORDS, "-o", tmp_path / "out")
    children.append(child)
    partial = tmp_path / "out" / "results.jsonl.partial"
    deadline = time.monotonic() + PATIENCE_S
    while not (partial.is_file() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in range(signals):
        child.process.send_signal(signal.SIGINT)
        if number + 1 < signals:
            child.hear("draining")
    code, _ = child.end()
    assert code in ((130,) if source == "file" else (0, 130)), "".join(child.told)
    if code:  # a camera's run may have ended well between the two signals
        assert [path.name for path in (tmp_path / "out").iterdir()] == [partial.name]


def test_an_age_limit_is_refused_for_files(
    capsys: pytest.CaptureFixture[str], words: Path, tmp_path: Path
) -> None:
    shots = video(tmp_path / "v.mp4")
    _, told = answered(capsys, 2, "run", words, shots, *WORDS, "--max-age", 5)
    assert "not live" in told


def test_words_and_a_new_bundle_never_meet(detector: Path) -> None:
    reopened = partial(Bundle.open, detector)
    engines = Engines("cpu", None, None)
    templates = ("one {}",)
    prompts = compute_prompts(reopened(), ("dog",), engines, lambda _: None, templates=templates)
    asked = Asked(reopened(), "detect", None, engines, {"prompts": prompts}, (CAMERA,), 2, None,
                  Live(), reopen=reopened)  # fmt: skip
    with Run(asked) as run_:
        words = LiveWords(asked, run_._holder, lambda: run_._opened).prompting()
        assert isinstance(words, Prompting)
        new = run_._reopen()
        with pytest.raises(BusyError, match="opened again"):
            words.change(["ear tag"])
        run_._exchange(new)
        words.change(["ear tag"])
        assert words.current() == ("ear tag",)
        assert asked.artefacts["prompts"].head.templates == templates
        assert run_.go().done == 2
