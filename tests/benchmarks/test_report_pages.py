"""The pages of a record and of a comparison in a real browser: phone and desk, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.chromium import chromium, nameless
from helpers.full_record import judged_record

from jetlift.benchmarks import report, versus, versus_report
from jetlift.runtime.record import read_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden" / "record.json"
LEAST_PX = 10.5
WIDTHS = (1280, 900, 390)
# Contrast by https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio; text of AA:
# https://www.w3.org/TR/WCAG22/#contrast-minimum
LOOK = """() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = rgb => { const [r, g, b] = rgb.map(
      v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = node => { for (; node; node = node.parentElement) {
      const c = numbers(getComputedStyle(node).backgroundColor);
      if (c.length && (c.length < 4 || c[3] > 0)) return c.slice(0, 3); }
    return [255, 255, 255]; };
  const faint = [], small = [];
  for (const node of document.querySelectorAll("body *")) {
    const box = node.getBoundingClientRect();
    const told = [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!told || box.width < 2 || box.height < 2 || node.closest("sup")) continue;
    const style = getComputedStyle(node), drawn = node.namespaceURI.includes("svg");
    const matrix = drawn ? node.getScreenCTM() : null;
    const size = parseFloat(style.fontSize) * (matrix ? Math.hypot(matrix.a, matrix.b) : 1);
    const a = light(numbers(drawn ? style.fill : style.color).slice(0, 3));
    const b = light(behind(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push([node.textContent.trim(), ratio]);
    if (size < LEAST) small.push([node.textContent.trim(), size]);
  }
  const tables = [...document.querySelectorAll("table")];
  return {
    faint, small,
    too_wide: document.documentElement.scrollWidth - innerWidth,
    uncaptioned: tables.filter(t => !t.caption || !t.caption.textContent.trim()).length,
    unscoped: [...document.querySelectorAll("th:not([scope])")].map(th => th.textContent),
  };
}""".replace("LEAST", str(LEAST_PX))
NOTHING_WRONG: dict[str, Any] = {
    "faint": [], "small": [], "too_wide": 0, "uncaptioned": 0, "unscoped": []
}  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """report.html of a record with everything, and of three records held together."""
    out = tmp_path_factory.mktemp("pages")
    bare = read_record(GOLDEN)
    full = judged_record(bare)
    board = replace(
        bare, machine=replace(bare.machine, cpu="NVIDIA Jetson Orin Nano Developer Kit Super")
    )
    report.write_report(full, out / "one")
    named = [
        versus.Named("A: before the driver update of November", bare),
        versus.Named("B: after", board),
        versus.Named("C: 15 W", full),
    ]
    versus_report.write_comparison(named, out / "several")
    return {name: out / name / "report.html" for name in ("one", "several")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("name", ["one", "several"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_at_every_width(
    browser: Browser, pages: dict[str, Path], name: str, scheme: Any
) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(pages[name].as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(LOOK) == NOTHING_WRONG, width
    assert nameless(page) == []
    assert [url for url in requests if not url.startswith("data:")] == [pages[name].as_uri()]
    context.close()


@pytest.mark.parametrize("name", ["one", "several"])
def test_on_paper_nothing_is_cut_off(browser: Browser, pages: dict[str, Path], name: str) -> None:
    page = browser.new_page()
    page.goto(pages[name].as_uri())
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less 14 mm on either side
    over = page.evaluate(
        """() => [...document.querySelectorAll("table, svg")]
            .filter(item => item.getBoundingClientRect().right > innerWidth)
            .map(item => item.textContent.trim().slice(0, 60))"""
    )
    assert over == []
    page.close()
