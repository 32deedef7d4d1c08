"""The server as its visitors meet it: rules P1 to P3 and L1 to L4, over real sockets."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from helpers.http_viewer import Viewer, ask, post, read_all, viewers, within
from helpers.view_scene import BUDGET, SIZE_WH, Scene, running

from jetlift.runtime.clock import SystemClock
from jetlift.runtime.errors import MachineError, MissingPackageError, UsageError
from jetlift.runtime.pipeline.form import Snapshot
from jetlift.runtime.view import app, desk
from jetlift.runtime.view.board import ViewBoard
from jetlift.runtime.view.form import ViewOptions
from jetlift.runtime.view.server import ViewServer

LIMIT_S = 60
SMALL = ViewOptions(longest_side=320, max_fps=8, stop_grace_s=0.3)


class Ahead(SystemClock):
    """The machine's clock, which a test sets forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_s(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


@pytest.fixture
def run() -> Scene:
    return Scene(Ahead(), budget=BUDGET, refuse=("too long",))


@pytest.fixture
def board(run: Scene) -> ViewBoard:
    return ViewBoard(run.told(), SMALL, run.clock)


@pytest.fixture
def server(board: ViewBoard, run: Scene) -> Iterator[ViewServer]:
    with ViewServer(board, "127.0.0.1:0") as made, running(board, run):
        yield made


# Answers with an end.


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/view.css", "text/css"), ("/view.js", "text/javascript"),
     ("/charts.js", "text/javascript"), ("/figures.js", "text/javascript"),
     ("/pictures.js", "text/javascript"), ("/icon.svg", "image/svg+xml"),
     ("/healthz", "text/plain"), ("/api/state", "application/json")],
)  # fmt: skip
def test_every_address_answers_and_is_guarded(server: ViewServer, path: str, kind: str) -> None:
    reply = ask(server, path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith(kind)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_other_addresses_and_methods_do_not(server: ViewServer) -> None:
    assert ask(server, "/../pyproject.toml").status == 404
    assert ask(server, "/page/index.html").status == 404
    assert ask(server, "/refused.html").status == 404
    assert ask(server, "/api/prompts").status == 405
    wrong = ask(server, "/stream.mjpg", method="POST", content_type="application/json", body=b"{}")
    assert wrong.status == 405
    assert ask(server, "/stream.mjpg", method="HEAD").body == b""


def test_state_holds_everything_and_the_history(server: ViewServer) -> None:
    state = ask(server, "/api/state").json
    assert state["title"] == "yolox-s"
    assert set(state["history"]["columns"]) == {
        "p50_ms", "p99_ms", "per_s", "rss_bytes", "power_w"
    }  # fmt: skip
    assert [line["ok"] for line in state["budget"]] == [True, True, False, True, None]


def test_a_snapshot_is_the_whole_picture_under_a_name_with_the_time(server: ViewServer) -> None:
    reply = ask(server, "/snapshot.jpg")
    name = reply.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="yolox-s-\d{8}-\d{6}-\d{3}\.jpg"', name)
    picture = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (SIZE_WH[1], SIZE_WH[0], 3)


def test_a_title_never_breaks_out_of_a_files_name(run: Scene) -> None:
    board = ViewBoard(run.told(title='../"x\r\nset-cookie: a'), SMALL, run.clock)
    with ViewServer(board, "127.0.0.1:0") as server, running(board, run):
        reply = ask(server, "/snapshot.jpg")
    assert reply.status == 200
    assert "set-cookie" not in reply.headers
    assert reply.headers["content-disposition"].startswith('attachment; filename="x-set-cookie-a-')


def test_no_picture_no_snapshot(board: ViewBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_PICTURE_WAIT_S", 0.05)
    with ViewServer(board, "127.0.0.1:0") as server:
        reply = ask(server, "/snapshot.jpg")
    assert reply.status == 503
    assert b"No picture came" in reply.body


def test_prompts_reach_the_task(server: ViewServer, run: Scene) -> None:
    assert post(server, ["cat", " dog "]).status == 200
    assert run.changes == [["cat", "dog"]]
    within(lambda: ask(server, "/api/state").json["prompts"]["current"] == ["cat", "dog"])


def test_prompts_that_are_refused_say_why(server: ViewServer, run: Scene) -> None:
    reply = post(server, ["too long"])
    assert reply.status == 422
    assert reply.json["error"].startswith("The prompt 'too long' has 90 tokens. 77 at most.")
    assert post(server, []).status == 422
    assert post(server, ["a" * 70_000]).status == 413
    raw = {"method": "POST", "content_type": "application/json"}
    assert ask(server, "/api/prompts", body=b"{", **raw).status == 400
    assert ask(server, "/api/prompts", body=b"[]", **raw).status == 422
    assert run.changes == []


def test_another_site_changes_no_prompts(server: ViewServer, run: Scene) -> None:
    own = f"http://127.0.0.1:{server.address.port}"
    assert post(server, ["cat"], origin="http://evil.example").status == 403
    assert post(server, ["cat"], origin=own).status == 200
    plain = ask(server, "/api/prompts", method="POST", body=b"{}", content_type="text/plain")
    assert plain.status == 403
    assert run.changes == [["cat"]]


def test_a_task_without_prompts_says_so(run: Scene) -> None:
    board = ViewBoard(run.told(prompts="Its labels are fixed."), SMALL, run.clock)
    with ViewServer(board, "127.0.0.1:0") as server:
        reply = post(server, ["cat"])
    assert (reply.status, reply.json) == (422, {"error": "Its labels are fixed."})


def test_another_name_is_misdirected(server: ViewServer) -> None:
    reply = ask(server, "/", host="evil.example")
    assert reply.status == 421
    assert "evil.example" in reply.body.decode()
    page = ask(server, "/", host="<script>.example", accept="text/html")
    assert b"<script>" not in page.body
    assert b"&lt;script&gt;" in page.body


def test_noise_is_refused_and_the_next_visitor_served(server: ViewServer) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9\r\n\r\n", b"A" * 70_000):
        with socket.create_connection(("127.0.0.1", server.address.port), LIMIT_S) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(LIMIT_S)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert ask(server, "/healthz").body == b"ok\n"


# The token.


@pytest.fixture
def guarded(board: ViewBoard, run: Scene) -> Iterator[tuple[ViewServer, str]]:
    with ViewServer(board, "0.0.0.0:0") as made, running(board, run):
        yield made, made.url.partition("?token=")[2]


def test_bound_elsewhere_it_asks_for_a_random_token(guarded: tuple[ViewServer, str]) -> None:
    server, token = guarded
    assert len(token) >= 43
    for path in ("/", "/stream.mjpg", "/events", "/snapshot.jpg", "/api/state"):
        reply = ask(server, path)
        assert reply.status == 401
        assert b"Open the whole address" in reply.body
    assert post(server, ["cat"]).status == 401
    assert ask(server, "/healthz").status == 200


def test_the_token_becomes_a_cookie(guarded: tuple[ViewServer, str]) -> None:
    server, token = guarded
    reply = ask(server, f"/?token={token}")
    assert (reply.status, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert token not in cookie
    assert ask(server, "/", cookie=cookie.partition(";")[0]).status == 200
    assert ask(server, "/api/state", authorization=f"Bearer {token}").status == 200
    assert ask(server, "/?token=guess").status == 401


def test_a_browser_is_led_on_by_a_page_of_ours(guarded: tuple[ViewServer, str]) -> None:
    server, token = guarded
    reply = ask(server, f"/?token={token}", accept="text/html")
    assert reply.status == 200
    assert b'http-equiv="refresh" content="0; url=/"' in reply.body
    assert "set-cookie" in reply.headers
    assert token.encode() not in reply.body
    refused = ask(server, "/", accept="text/html")
    assert refused.status == 401
    assert b"<h1>This view stays closed</h1>" in refused.body


def test_names_can_be_allowed(board: ViewBoard) -> None:
    with ViewServer(board, "127.0.0.1:0", names=["Robot.example"]) as server:
        assert ask(server, "/", host="robot.example").status == 200
        assert "token" not in server.url


def test_a_token_of_ones_own(board: ViewBoard) -> None:
    token = "of-my-own-choice"  # noqa: S105
    with ViewServer(board, "127.0.0.1:0", token=token) as server:
        assert ask(server, "/").status == 401
        assert server.url.endswith(f"?token={token}")
    with pytest.raises(UsageError):
        ViewServer(board, "127.0.0.1:0", token="short")  # noqa: S106


# Viewers.


def test_two_hundred_viewers_get_pictures_and_hold_nobody_up(
    server: ViewServer, board: ViewBoard, run: Scene
) -> None:
    with viewers(server, 200) as many, viewers(server, 1) as idle:
        read_all(many, lambda viewer: viewer.boundaries >= 3)
        assert board.watching == len(many) + len(idle)
        before, result = board.health().written, run.result()
        for _ in range(2000):
            board.write(result)
        assert board.health().written >= before + 2000
        read_all(many, lambda viewer: viewer.boundaries >= 5)
        assert ask(server, "/healthz").status == 200
    within(lambda: board.watching == 0)


def test_every_part_is_one_whole_picture(server: ViewServer) -> None:
    viewer = Viewer(server, "/stream.mjpg")
    viewer.read_until(lambda: viewer.boundaries >= 4)
    viewer.close()
    assert b"content-type: multipart/x-mixed-replace; boundary=jetlift-picture" in viewer.got
    bodies = re.findall(rb"Content-Length: (\d+)\r\n\r\n(.*?)\r\n--jetlift", viewer.got, re.DOTALL)
    assert len(bodies) >= 3
    for length, jpeg in bodies:
        assert len(jpeg) == int(length)
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None


def test_other_programs_read_the_stream(server: ViewServer) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg on this machine")
    url = f"{server.url}stream.mjpg"
    command = ["ffmpeg", "-v", "error", "-i", url, "-frames:v", "3", "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 3


def test_a_viewer_that_breaks_off_within_a_picture(server: ViewServer, board: ViewBoard) -> None:
    with viewers(server, 1) as steady:
        for _ in range(5):
            viewer = Viewer(server)
            viewer.read_until(lambda viewer=viewer: b"image/jpeg" in viewer.got)
            viewer.reset()
        within(lambda: board.watching == 1)
        read_all(steady, lambda viewer: viewer.boundaries >= 4)


def test_a_viewer_that_never_reads_is_sent_away_and_slows_nobody(
    server: ViewServer, board: ViewBoard, run: Scene
) -> None:
    with viewers(server, 1) as sleeping, viewers(server, 2) as awake:
        sleeping[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        seats = server._running._seats[0]  # type: ignore[union-attr]
        within(lambda: seats.stalled(run.clock.now_s(), 0.2))
        already = max(viewer.boundaries for viewer in awake)
        read_all(awake, lambda viewer: viewer.boundaries >= already + 3)
        assert board.watching == 3
        stalled = seats.stalled(run.clock.now_s(), 0.2)
        for viewer in awake:
            viewer.close()
        within(lambda: board.watching == 1)
        assert len(stalled) == 1
        run.clock.ahead_s += board.options.stalled_s  # type: ignore[attr-defined]
        within(lambda: board.watching == 0)


def test_a_connection_that_asks_for_nothing_is_closed(server: ViewServer, run: Scene) -> None:
    with socket.create_connection(("127.0.0.1", server.address.port), LIMIT_S) as silent:
        within(lambda: server._running._silent_since_s)  # type: ignore[union-attr]
        run.clock.ahead_s += 60  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            assert silent.recv(1) == b""


@pytest.mark.parametrize("path", ["/stream.mjpg", "/events"])
def test_there_are_only_so_many_seats(run: Scene, path: str) -> None:
    board = ViewBoard(run.told(), ViewOptions(most_viewers=2, stop_grace_s=0.2), run.clock)
    with ViewServer(board, "127.0.0.1:0") as server, running(board, run):
        with viewers(server, 2, path) as seated:
            read_all(seated, lambda viewer: len(viewer.got) > 500)
            reply = ask(server, path)
            assert reply.status == 503
            assert reply.body.startswith(b"All 2 seats of this view are taken")
        within(lambda: _status(server, path) == 200)


def _status(server: ViewServer, path: str) -> int:
    viewer = Viewer(server, path)
    viewer.read_until(lambda: b"\r\n" in viewer.got)
    viewer.close()
    return int(viewer.got.split()[1])


def test_pictures_are_drawn_only_while_somebody_looks(run: Scene) -> None:
    options = ViewOptions(longest_side=320, grace_s=0.0, stop_grace_s=0.2)
    board = ViewBoard(run.told(), options, run.clock)
    with ViewServer(board, "127.0.0.1:0") as server, running(board, run):
        within(lambda: run.written > 20)
        assert run.drawn == 0
        with viewers(server, 1) as one:
            read_all(one, lambda viewer: viewer.boundaries >= 3)
        within(lambda: not board.wants_pictures)
        drawn, written = run.drawn, run.written
        within(lambda: run.written > written + 20)
        assert run.drawn <= drawn + 1


def test_a_viewer_that_comes_late_sees_no_old_picture(run: Scene) -> None:
    board = ViewBoard(run.told(), SMALL, run.clock)
    with ViewServer(board, "127.0.0.1:0") as server:
        with viewers(server, 1) as one:
            within(lambda: board.watching)
            board.write(run.result())
            read_all(one, lambda viewer: viewer.boundaries >= 2)
        within(lambda: board.watching == 0)
        with viewers(server, 1) as again:  # nothing newer: the last one is what there is
            read_all(again, lambda viewer: viewer.boundaries >= 2)
        within(lambda: board.watching == 0)
        board.write(run.result(drawn=False))
        with viewers(server, 1) as late:
            read_all(late, lambda viewer: viewer.boundaries >= 1)
            within(lambda: board.watching)
            board.write(run.result())
            read_all(late, lambda viewer: viewer.boundaries >= 2)
            assert late[0].got.count(b"image/jpeg") == 1


# Events.


def _events(got: bytes, name: str) -> list[dict]:
    found = re.findall(rf"event: {name}\ndata: (.*)\n\n".encode(), got)
    return [json.loads(data) for data in found]


def test_events_bring_the_history_then_figures(server: ViewServer) -> None:
    with viewers(server, 3, "/events") as many:
        read_all(many, lambda viewer: len(_events(viewer.got, "state")) >= 3)
    for viewer in many:
        assert len(_events(viewer.got, "history")) == 1
        numbers = [state["now"]["number"] for state in _events(viewer.got, "state")]
        assert numbers == sorted(numbers)


def test_the_last_event_tells_how_the_run_ended(board: ViewBoard, run: Scene) -> None:
    with ViewServer(board, "127.0.0.1:0") as server:
        viewer = Viewer(server, "/events")
        stream = Viewer(server, "/stream.mjpg")
        with pytest.raises(UsageError), board:
            viewer.read_until(lambda: b"event: state" in viewer.got)
            board.write(run.result())
            raise UsageError("The camera is gone")
    viewer.read_to_end()
    stream.read_to_end()
    last = _events(viewer.got, "state")[-1]
    assert last["run"]["state"] == "failed"
    assert last["run"]["message"] == "The camera is gone."
    assert viewer.got.endswith(b"0\r\n\r\n")  # a whole response, not one that broke off
    viewer.close()
    stream.close()


# Start and stop.


def test_it_stops_with_two_hundred_viewers_who_do_not_read(run: Scene) -> None:
    board = ViewBoard(run.told(), SMALL, run.clock)
    with ViewServer(board, "127.0.0.1:0") as server, running(board, run):
        port = server.address.port
        with viewers(server, 200) as many, viewers(server, 20, "/events"):
            within(lambda: board.watching == 200)
            server.close()
            assert board.watching == 0
            for viewer in many:
                viewer.read_to_end()
        server.close()  # a second time
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), LIMIT_S)


def test_a_taken_port_is_an_error_before_any_thread(board: ViewBoard, server: ViewServer) -> None:
    before = threading.active_count()
    second = ViewServer(board, f"127.0.0.1:{server.address.port}")
    with pytest.raises(MachineError, match="in use"), second:
        pytest.fail("it began to serve")
    assert threading.active_count() == before
    assert ask(server, "/healthz").status == 200


def test_it_can_serve_again(board: ViewBoard, run: Scene) -> None:
    server = ViewServer(board, "127.0.0.1:0")
    for _ in range(2):
        with server, running(board, run), viewers(server, 1) as one:
            read_all(one, lambda viewer: viewer.boundaries >= 2)


def test_a_change_of_prompts_that_hangs_is_told_by_its_thread(
    run: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_GRACE_S", 0.05)
    began, release = threading.Event(), threading.Event()

    def change(_prompts: list[str]) -> None:
        began.set()
        release.wait(LIMIT_S)

    run.change = change  # type: ignore[method-assign]
    board = ViewBoard(run.told(), SMALL, run.clock)
    replies = []
    with ViewServer(board, "127.0.0.1:0") as server:
        visitor = threading.Thread(target=lambda: replies.append(post(server, ["cat"])))
        visitor.start()
        assert began.wait(LIMIT_S)
        assert post(server, ["dog"]).status == 409
        with pytest.raises(MachineError, match="'jetlift view prompts' did not end"):
            server.close()
    visitor.join(LIMIT_S)
    assert replies[0].status == 503
    release.set()
    within(lambda: "jetlift view prompts" not in [item.name for item in threading.enumerate()])


def test_what_ended_a_thread_of_the_view_is_raised_at_the_end(run: Scene) -> None:
    def snapshot() -> Snapshot:
        raise ZeroDivisionError("a fault")

    board = ViewBoard(run.told(snapshot=snapshot), SMALL, run.clock)
    with pytest.raises(ZeroDivisionError), ViewServer(board, "127.0.0.1:0") as server:
        within(lambda: ask(server, "/healthz").status == 503)
        board.write(run.result())  # the pipeline is not touched by it
    with (
        pytest.raises(UsageError),  # what the pipeline says comes first
        ViewServer(board, "127.0.0.1:0") as server,
    ):
        within(lambda: ask(server, "/healthz").status == 503)
        raise UsageError("The run's own")


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_a_missing_package_is_named(
    board: ViewBoard, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=re.escape("pip install 'jetlift[view]'")):
        ViewServer(board, "127.0.0.1:0").__enter__()
