"""The page as people meet it, in real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from helpers.chromium import chromium, moves, nameless, pixels, small_targets
from helpers.http_viewer import Viewer
from helpers.http_viewer import within as waited
from helpers.view_scene import BUDGET, SIZE_WH, Scene, running

from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.form import Result
from jetlift.runtime.tasks.base import Outcome
from jetlift.runtime.texts import TextItem
from jetlift.runtime.view.board import ViewBoard
from jetlift.runtime.view.form import ViewOptions
from jetlift.runtime.view.server import ViewServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

LIMIT_MS = 60_000
PHONE, DESK = (390, 844), (1440, 900)
QUICK = ViewOptions(stop_grace_s=0.3, grace_s=0.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = _context(browser, DESK)
    yield made
    made.close()


def _context(browser: Browser, size: tuple[int, int], **how: object) -> BrowserContext:
    viewport = {"width": size[0], "height": size[1]}
    made = browser.new_context(viewport=viewport, accept_downloads=True, **how)
    made.set_default_timeout(LIMIT_MS)
    return made


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened, faults = context.new_page(), []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield opened
    network = re.compile(r"Failed to load resource|ERR_")  # servers go away in some of these tests
    assert [fault for fault in faults if not network.search(fault)] == []


@pytest.fixture
def run() -> Scene:
    return Scene(budget=BUDGET, refuse=("too long",))


@pytest.fixture
def board(run: Scene) -> ViewBoard:
    return ViewBoard(run.told(), QUICK)


@pytest.fixture
def server(board: ViewBoard, run: Scene) -> Iterator[ViewServer]:
    with ViewServer(board, "127.0.0.1:0") as made, running(board, run):
        yield made


@pytest.fixture
def live(page: Page, server: ViewServer) -> Page:
    page.goto(server.url)
    page.locator("#picture").wait_for(state="visible")
    return page


def _text(page: Page, name: str, pattern: str) -> str:
    """Wait until an element says something."""
    from playwright.sync_api import expect

    node = page.locator(f"#{name}")
    expect(node).to_have_text(re.compile(pattern), timeout=LIMIT_MS)
    return node.inner_text()


def _changes(page: Page, name: str) -> None:
    node = page.locator(f"#{name}")
    first = node.inner_text()
    _until(page, lambda: node.inner_text() != first)


def _until(page: Page, condition) -> None:
    for _ in range(LIMIT_MS // 50):
        if condition():
            return
        page.wait_for_timeout(50)
    pytest.fail("it did not come about")


# Pictures and figures.


def test_pictures_move(live: Page) -> None:
    assert moves(live.locator("#picture"))
    assert _text(live, "status-text", "^Live$")
    assert live.locator("#veil").is_hidden()


def test_a_browser_shows_a_picture_before_the_next_one_is_there(
    page: Page, run: Scene, board: ViewBoard
) -> None:
    with ViewServer(board, "127.0.0.1:0") as server:
        board.write(run.result(drawn=False))
        page.goto(server.url)
        _until(page, lambda: board.watching)
        board.write(run.result())  # one alone
        page.locator("#picture").wait_for(state="visible")


def test_figures_go_on(live: Page) -> None:
    _text(live, "latency", r"^\d+\.?\d*$")
    _text(live, "latency-more", r"^p50 \d.*p99 \d")
    _changes(live, "age")
    _changes(live, "count-done")
    assert _text(live, "memory", r"^41\d$")
    assert _text(live, "power", r"^14\.6$")
    assert live.title() == "yolox-s · jetlift"


def test_the_budget_is_told_line_by_line(live: Page) -> None:
    verdicts = live.locator("#budget .verdict").all_inner_texts()
    assert verdicts == ["within", "within", "over", "within", "not measured"]
    said = live.locator("#budget .said").all_inner_texts()
    assert said[2] == "412 MiB, at most 400 MiB"
    assert said[4] == "no samples were given; at least 0.4"


def test_the_result_is_there_as_text(live: Page) -> None:
    _text(live, "result", r"crate")
    assert live.locator("#result .found").count() >= 2
    _text(live, "result-place", r"^csi://0 #\d+$")


def test_charts_say_what_they_show(live: Page) -> None:
    chart = live.locator("#chart-age svg")
    _until(live, lambda: re.search(r"p50 4\d", chart.get_attribute("aria-label") or ""))
    _until(live, lambda: "L" in (live.locator("#chart-rate .curve").get_attribute("d") or ""))


def test_words_of_a_task_are_never_markup(page: Page, run: Scene) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    board = ViewBoard(run.told(title=nasty), QUICK)
    with ViewServer(board, "127.0.0.1:0") as server:
        result = run.result()
        result.outcome.fields["labels"] = [nasty] * len(result.outcome.fields["labels"])
        board.write(result)
        page.goto(server.url)
        assert nasty in _text(page, "result", "onerror")
        assert page.locator("#result img, #title img").count() == 0


def test_a_task_without_pictures_shows_its_words(page: Page, run: Scene) -> None:
    board = ViewBoard(run.told(shows="nothing", task="transcribe"), QUICK)
    with ViewServer(board, "127.0.0.1:0") as server:
        fields = {"source": "talk.wav", "index": 0, "time_s": None, "text": "Ask not", "tokens": 3}
        board.write(Result(TextItem("talk.wav", 0, ""), Outcome(fields, {})))
        page.goto(server.url)
        assert _text(page, "result", "Ask not")
        assert page.locator("#stage").is_hidden()
        assert board.watching == 0


def test_the_stream_is_read_however_it_is_split(live: Page) -> None:
    read = """async step => {
        const { cut } = await import("/pictures.js");
        const text = new TextEncoder(), seen = [];
        const part = body => `--b\\r\\nContent-Length: ${body.length}\\r\\n\\r\\n${body}\\r\\n`;
        const all = text.encode(["one", "", "a\\r\\n\\r\\nb", "--b", "last"].map(part).join(""));
        let left = new Uint8Array(0);
        for (let at = 0; at < all.length; at += step) {
            left = new Uint8Array([...left, ...all.subarray(at, at + step)]);
            const [newest, rest] = cut(left);
            if (newest) seen.push(new TextDecoder().decode(newest));
            left = rest;
        }
        return seen;
    }"""
    for step in (1, 2, 3, 7):
        assert live.evaluate(read, step) == ["one", "", "a\r\n\r\nb", "--b", "last"]
    assert live.evaluate(read, 10_000) == ["last"]  # those before it are not worth drawing


# Controls.


def test_pause_holds_the_picture_and_frees_the_pipeline(
    live: Page, board: ViewBoard, tmp_path: Path
) -> None:
    live.keyboard.press("Space")
    _text(live, "pause-text", "^Resume$")
    assert live.locator("#pause").get_attribute("aria-pressed") == "true"
    assert live.locator("#picture").is_visible()
    _until(live, lambda: not board.watching)
    still = pixels(live.locator("#picture"))
    _changes(live, "count-done")  # figures go on
    assert pixels(live.locator("#picture")) == still
    with live.expect_download() as caught:
        live.locator("#snapshot").click()
    _is_picture(caught.value, tmp_path)
    live.locator("#pause").click()
    live.locator("#picture").wait_for(state="visible")
    assert moves(live.locator("#picture"))


def _is_picture(download, folder: Path) -> None:
    assert re.fullmatch(r"yolox-s-\d{8}[-T]\d{6}.*\.jpg", download.suggested_filename)
    kept = folder / download.suggested_filename
    download.save_as(kept)
    picture = cv2.imread(str(kept))
    assert picture is not None
    assert picture.shape == (SIZE_WH[1], SIZE_WH[0], 3)


def test_a_snapshot_is_kept(live: Page, tmp_path: Path) -> None:
    with live.expect_download() as caught:
        live.keyboard.press("s")
    _is_picture(caught.value, tmp_path)
    _text(live, "note", r"^Saved yolox-s-")


def test_full_screen_and_back(live: Page) -> None:
    live.keyboard.press("f")
    _until(live, lambda: live.evaluate("() => document.fullscreenElement !== null"))
    _text(live, "full-text", "^Leave full screen$")
    live.locator("#full").click()
    _until(live, lambda: live.evaluate("() => document.fullscreenElement === null"))


def test_prompts_reach_the_task(live: Page, run: Scene) -> None:
    live.keyboard.press("/")
    box = live.locator("#prompts")
    assert box.evaluate("node => node === document.activeElement")
    box.fill("")
    live.keyboard.type("a red fox\nsnow")  # f and s are letters here
    live.keyboard.press("Control+Enter")
    _text(live, "prompts-answer", "^In force now")
    assert run.changes == [["a red fox", "snow"]]
    assert live.locator("#full").get_attribute("aria-pressed") == "false"
    box.fill("too long")
    live.locator("#apply").click()
    _text(live, "prompts-answer", r"^The prompt 'too long' has 90 tokens\. 77 at most\.")
    assert box.input_value() == "too long"  # the words are still there to be mended
    assert run.prompts == ["a red fox", "snow"]


def test_prompts_of_another_viewer_arrive(live: Page, run: Scene) -> None:
    run.prompts = ["bicycle"]
    _until(live, lambda: live.locator("#prompts").input_value() == "bicycle")
    live.locator("#prompts").fill("half a wo")
    run.prompts = ["train"]
    _changes(live, "count-done")
    assert live.locator("#prompts").input_value() == "half a wo"  # never under one's hands


def test_a_task_without_prompts_says_why(page: Page, run: Scene) -> None:
    board = ViewBoard(run.told(prompts="Its labels are fixed."), QUICK)
    with ViewServer(board, "127.0.0.1:0") as server:
        page.goto(server.url)
        _text(page, "prompts-hint", "Its labels are fixed")
        assert page.locator("#prompts").is_disabled()
        assert page.locator("#apply").is_disabled()


def test_every_control_is_reached_by_tab_and_shows_it(live: Page) -> None:
    reached = []
    for _ in range(5):
        live.keyboard.press("Tab")
        reached.append(live.evaluate("() => document.activeElement.id"))
        style = live.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid"
    assert reached == ["pause", "snapshot", "full", "prompts", "apply"]


# States.


def test_a_run_that_starts(page: Page, run: Scene) -> None:
    begun = []
    board = ViewBoard(run.told(snapshot=lambda: run.snapshot() if begun else None), QUICK)
    with ViewServer(board, "127.0.0.1:0") as server:
        page.goto(server.url)
        _text(page, "status-text", "^Starting$")
        _text(page, "veil-head", "^The run is starting$")
        begun.append(True)
        _text(page, "status-text", "^No picture yet$")
        with running(board, run):
            _text(page, "status-text", "^Live$")
            page.locator("#picture").wait_for(state="visible")


def test_a_source_that_is_lost_and_comes_back(live: Page, run: Scene) -> None:
    live.evaluate("""() => {
        window.said = []; window.shown = [];
        const watch = (id, list) => new MutationObserver(
            () => list.push(document.getElementById(id).textContent)
        ).observe(document.getElementById(id),
            { childList: true, characterData: true, subtree: true });
        watch("announce", window.said); watch("status-text", window.shown);
    }""")
    run.connected, run.trouble = False, "the cable was pulled"
    _text(live, "status-text", r"^Source lost: reconnecting, [2-9] s$")
    _text(live, "veil-head", r"^Reconnecting, \d s$")
    _text(live, "veil-more", "^csi://0: the cable was pulled$")
    run.connected, run.reconnects = True, 1
    _text(live, "status-text", "^Live$")
    _text(live, "count-reconnects", "^1$")
    # A screen reader hears of the change, not of every second.
    assert live.evaluate("() => window.said") == ["Source lost: reconnecting", "Live"]
    assert len(live.evaluate("() => window.shown")) >= 4


def test_a_run_that_ends(page: Page, run: Scene, board: ViewBoard) -> None:
    with ViewServer(board, "127.0.0.1:0") as server:
        with running(board, run):
            page.goto(server.url)
            page.locator("#picture").wait_for(state="visible")
        _text(page, "status-text", "^Run ended$")
    page.wait_for_timeout(2500)  # longer than it takes to try again
    assert _text(page, "status-text", "^Run ended$")  # and not that the server is gone
    done = page.locator("#count-done").inner_text().replace(",", "")
    assert int(done) == run.written


def test_a_run_that_fails_says_why(page: Page, board: ViewBoard) -> None:
    with ViewServer(board, "127.0.0.1:0") as server:
        page.goto(server.url)
        _text(page, "status-text", "^No picture yet$")
        with pytest.raises(UsageError), board:
            raise UsageError("The engine gave no finite numbers", do="Build it again")
        _text(page, "status-text", "^Run failed$")
        _text(page, "veil-more", r"^The engine gave no finite numbers\. Build it again\.$")
        assert "Build it again" in page.locator("#announce").inner_text()


def test_a_server_that_goes_and_comes_back(page: Page, run: Scene, board: ViewBoard) -> None:
    with ViewServer(board, "127.0.0.1:0") as server, running(board, run):
        page.goto(server.url)
        page.locator("#picture").wait_for(state="visible")
        server.close()
        _text(page, "status-text", "^Server gone$")
        with ViewServer(board, f"127.0.0.1:{server.address.port}"):
            _text(page, "status-text", "^Live$")
            page.locator("#picture").wait_for(state="visible")
            assert moves(page.locator("#picture"))


def test_when_all_seats_are_taken(page: Page, run: Scene) -> None:
    board = ViewBoard(run.told(), ViewOptions(most_viewers=1, stop_grace_s=0.2))
    with ViewServer(board, "127.0.0.1:0") as server, running(board, run):
        other = Viewer(server, "/events")
        other.read_until(lambda: b"event: state" in other.got)
        page.goto(server.url)
        _text(page, "status-text", "^All seats taken$")
        other.close()
        _text(page, "status-text", "^Live$")


def test_a_hidden_tab_watches_nothing(live: Page, board: ViewBoard) -> None:
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    live.evaluate(hide, True)  # noqa: FBT003 - an argument of the page's function
    _until(live, lambda: not board.watching)
    live.evaluate(hide, False)  # noqa: FBT003
    _until(live, lambda: board.watching)
    live.locator("#picture").wait_for(state="visible")


# The token.


def test_the_token_opens_the_page_and_disappears(browser: Browser, run: Scene) -> None:
    board = ViewBoard(run.told(), QUICK)
    with ViewServer(board, "0.0.0.0:0") as server, running(board, run):
        base = f"http://127.0.0.1:{server.address.port}/"
        token = server.url.partition("?")[2]
        invited = _context(browser, DESK)
        page = invited.new_page()
        page.goto(f"{base}?{token}")
        page.locator("#picture").wait_for(state="visible")
        assert page.url == base
        assert page.evaluate("() => document.cookie") == ""
        assert invited.cookies()[0]["sameSite"] == "Strict"
        page.reload()
        page.locator("#picture").wait_for(state="visible")
        invited.close()
        stranger = _context(browser, DESK)
        page = stranger.new_page()
        answer = page.goto(base)
        assert answer is not None
        assert answer.status == 401
        assert page.locator("h1").inner_text() == "This view stays closed"
        stranger.close()


def test_a_link_on_another_site_opens_the_page_too(browser: Browser, run: Scene) -> None:
    # Its first request comes from elsewhere, and browsers send no SameSite=Strict cookie with that.
    board = ViewBoard(run.told(), QUICK)
    with ViewServer(board, "0.0.0.0:0") as server, running(board, run):
        context = _context(browser, DESK)
        page = context.new_page()
        url = f"http://127.0.0.1:{server.address.port}/?{server.url.partition('?')[2]}"
        page.route("http://chat.example/", lambda route: route.fulfill(
            content_type="text/html", body=f'<a id="link" href="{url}">the view</a>'
        ))  # fmt: skip
        page.goto("http://chat.example/")
        page.locator("#link").click()
        page.locator("#picture").wait_for(state="visible")
        context.close()


# Every size, every person.


@pytest.mark.parametrize("size", [(360, 740), PHONE, (820, 1100), DESK, (1920, 1080)])
def test_it_fits(browser: Browser, server: ViewServer, size: tuple[int, int]) -> None:
    context = _context(browser, size, has_touch=size[0] < 800)
    page = context.new_page()
    page.goto(server.url)
    page.locator("#picture").wait_for(state="visible")
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= size[0]
    assert small_targets(page) == []
    top = page.locator("#screen").bounding_box()
    assert top is not None
    assert top["y"] + top["height"] <= size[1]  # the picture is whole without scrolling
    context.close()


def test_a_long_name_does_not_break_it(browser: Browser, run: Scene) -> None:
    board = ViewBoard(run.told(title="a-model-with-a-very-long-name-" * 4), QUICK)
    with ViewServer(board, "127.0.0.1:0") as server:
        context = _context(browser, (360, 740))
        page = context.new_page()
        page.goto(server.url)
        _text(page, "title", "a-model")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        context.close()


def test_everything_has_a_name(live: Page) -> None:
    _until(live, lambda: live.locator("#chart-age svg").get_attribute("aria-label"))
    assert nameless(live) == []
    assert live.locator("html").get_attribute("lang") == "en"
    assert live.locator("h1").count() == 1
    assert live.locator("main").count() == 1
    tree = live.locator("body").aria_snapshot()
    for name in ('button "Pause"', 'button "Snapshot"', 'textbox "What to look for"',
                 'heading "Budget"', 'button "Apply"'):  # fmt: skip
        assert name in tree


def test_those_who_want_less_motion_get_less(browser: Browser, server: ViewServer) -> None:
    dot = "() => getComputedStyle(document.querySelector('#status .dot')).animationName"
    for motion, name in (("reduce", "none"), ("no-preference", "breathe")):
        context = _context(browser, DESK, reduced_motion=motion)
        page = context.new_page()
        page.goto(server.url)
        _text(page, "status-text", "^Live$")
        assert page.evaluate(dot) == name
        context.close()


def test_dark_and_light(browser: Browser, server: ViewServer) -> None:
    seen = set()
    for scheme in ("dark", "light"):
        context = _context(browser, DESK, color_scheme=scheme)
        page = context.new_page()
        page.goto(server.url)
        seen.add(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(seen) == 2


def test_nothing_is_fetched_from_elsewhere(page: Page, server: ViewServer) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    page.locator("#picture").wait_for(state="visible")
    assert asked
    assert all(url.startswith((server.url, "data:")) for url in asked)


def test_letters_stand_out_from_their_ground() -> None:
    css = (Path(ViewBoard.__init__.__code__.co_filename).parent / "page" / "view.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block))
        pairs = [(ink, ground) for ground in ("card", "page") for ink in
                 ("ink", "muted", "good", "bad", "warn")]  # fmt: skip
        for ink, ground in [*pairs, ("on-strong", "strong"), ("ink", "soft")]:
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_waiting_gives_up_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.http_viewer.LIMIT_S", 0)
    with pytest.raises(pytest.fail.Exception):
        waited(lambda: False)
