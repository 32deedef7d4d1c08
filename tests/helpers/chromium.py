"""Headless Chromium for tests of pages; they skip where it or Playwright is missing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
CONTROLS = ("button", "textbox", "link", "image", "table", "heading", "region", "figure")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, new each time."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def nameless(page: Page) -> list[str]:
    """Controls, pictures and regions that a screen reader could not name."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        f"{node['role']['value']} {node.get('nodeId')}"
        for node in nodes
        if not node.get("ignored")
        and node["role"]["value"] in CONTROLS
        and not node.get("name", {}).get("value", "").strip()
    ]


def small_targets(page: Page, least_px: int = 40) -> list[str]:
    """Visible controls that a finger would miss."""
    found = []
    for control in page.locator("button, textarea, input, a[href]").all():
        box = control.bounding_box()
        if box and min(box["width"], box["height"]) < least_px:
            found.append(f"{control.get_attribute('id')}: {box['width']} x {box['height']}")
    return found


def pixels(canvas: Locator) -> str:
    """What is drawn on a canvas."""
    return str(canvas.evaluate("node => node.toDataURL()"))


def moves(canvas: Locator) -> bool:
    """Whether what is drawn on it becomes another picture."""
    first = pixels(canvas)
    for _ in range(100):
        if pixels(canvas) != first:
            return True
        canvas.page.wait_for_timeout(50)
    return False
