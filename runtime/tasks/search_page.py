"""What a search found as one page: queries with their hits, thumbnails or a list of texts.

Rules:
    W1  The page is one file: style and thumbnails are in it, nothing is fetched, no script runs.
    W2  Every name and text is escaped. What is no character of Unicode or HTML is replaced.
    W3  It reads without colours, pictures or a mouse: headings per query, lists of hits, captions
        as text, one link per picture that leads to the file.
    W4  At most QUERIES_SHOWN queries are on it; the rest are in results.jsonl, and it says so.
"""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import cv2

from jetlift.runtime import atomic
from jetlift.runtime.errors import InputError
from jetlift.runtime.sources import frame_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.runtime.tasks.search_form import IndexHead

PAGE_NAME = "index.html"
QUERIES_SHOWN = 100
_SIDE, _QUALITY = 320, 82
_TEXT_SHOWN = 600
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --ink: #161b24; --muted: #5a6473;
  --line: #dde2e9; --accent: #2257b8; --empty: #e7eaef; --warn: #8a5200; --warn-bg: #fcefd8; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1319; --card: #171c24; --ink: #e8ecf2;
  --muted: #9aa5b4; --line: #2b333f; --accent: #7fb0ff; --empty: #222935; --warn: #f0b866;
  --warn-bg: #3a2b12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 clamp(16px, 3vw, 32px); }
header { padding-top: 28px; }
h1 { font-size: clamp(24px, 4vw, 34px); line-height: 1.15; letter-spacing: -.02em;
  margin: 0 0 6px; }
h2 { font-size: 19px; line-height: 1.3; margin: 0 0 14px; }
p { margin: 0 0 10px; } .quiet { color: var(--muted); }
.warn { color: var(--warn); background: var(--warn-bg); padding: 8px 14px; border-radius: 8px;
  font-weight: 600; }
section { border-top: 1px solid var(--line); padding: 26px 0 18px; }
.found { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 3.4fr); gap: 20px; }
.found > :only-child { grid-column: 1 / -1; }
ol { list-style: none; margin: 0; padding: 0; }
ol.tiles { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; height: 100%; }
.query figure { border: 2px solid var(--accent); height: auto; }
figure a { display: block; background: var(--empty); }
img, .none { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: contain;
  background: var(--empty); }
.none { display: grid; place-items: center; color: var(--muted); font-size: 14px; }
figcaption { padding: 8px 12px 10px; font-size: 14px; line-height: 1.4; }
.score { font-weight: 650; font-variant-numeric: tabular-nums; margin-right: 8px; }
.texts li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 16px; margin-bottom: 8px; }
a { color: inherit; } a:focus-visible { outline: 3px solid var(--accent); outline-offset: -3px; }
.texts small { display: block; color: var(--muted); }
@media (max-width: 640px) { .found { grid-template-columns: minmax(0, 1fr); }
  ol.tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .query { max-width: 60%; } }
@media print { figure, .texts li { break-inside: avoid; } }
"""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$notes
</header>
<main>
$sections
</main>
</body>
</html>
""")


def write_page(
    path: Path, results: Sequence[Mapping[str, Any]], head: IndexHead, *, total: int, warning: str
) -> None:
    """Write the page (rules W1 to W4).

    Args:
        path: The file.
        results: Fields of the search task, one per query, of the first queries.
        head: Of the index that was searched.
        total: How many queries there were.
        warning: What a reader must know, such as that the weights are random; empty for nothing.

    Raises:
        StorageError: The disk is full or not writable.
    """
    shown = results[:QUERIES_SHOWN]
    notes = []
    if warning:
        notes.append(f'<p class="warn">{_safe(warning)}</p>')
    searched = f"{head.stamp.model}, {head.stamp.part} at {head.stamp.precision}"
    how = "every entry is compared" if head.tuning is None else "approximate, then scored exactly"
    notes.append(
        f'<p class="quiet">{head.rows:,} entries, {_safe(searched)}; {how}. '
        "The score is a cosine: 1 is the same direction, 0 is unrelated.</p>"
    )
    if total > len(shown):
        notes.append(f"<p>The first {len(shown)} of {total}; all are in results.jsonl.</p>")
    sections = "\n".join(_section(number, fields) for number, fields in enumerate(shown, 1))
    title = f"Search: {total} {'query' if total == 1 else 'queries'}"
    page = _PAGE.substitute(
        title=_safe(title), style=_STYLE, notes="\n".join(notes), sections=sections
    )
    atomic.write_bytes(path, page.encode("utf-8"))


def _section(number: int, fields: Mapping[str, Any]) -> str:
    text = fields.get("query")
    name = f"“{_cut(text)}”" if text is not None else _named(fields)
    query = "" if text is not None else f'<div class="query">{_figure(fields, "query")}</div>'
    hits = fields["hits"]
    is_texts = bool(hits) and all("text" in hit for hit in hits)
    rows = "\n".join(
        f"<li>{_text(hit) if is_texts else _figure(hit, f'hit {rank}')}</li>"
        for rank, hit in enumerate(hits, 1)
    )
    kind = "texts" if is_texts else "tiles"
    return (
        f'<section aria-labelledby="q{number}">\n<h2 id="q{number}">{_safe(name)}</h2>\n'
        f'<div class="found">{query}<ol class="{kind}" aria-label="Hits, best first">\n{rows}\n'
        "</ol></div>\n</section>"
    )


def _text(hit: Mapping[str, Any]) -> str:
    where = f"{Path(hit['source']).name}, line {hit['index'] + 1}"
    return (
        f'<span class="score">{hit["score"]:.3f}</span>{_safe(_cut(hit["text"]))}'
        f'<small title="{_safe(hit["source"])}">{_safe(where)}</small>'
    )


def _figure(fields: Mapping[str, Any], role: str) -> str:
    """A picture with its caption, linked to the file where there is one."""
    name, image = _named(fields), _thumbnail(str(fields["source"]), int(fields["index"]))
    alt = _safe(f"{role}: {name}")
    shown = f'<img src="{image}" alt="{alt}" loading="lazy">'
    if not image:
        shown = f'<span class="none" role="img" aria-label="{alt}">not to be had</span>'
    path = Path(fields["source"])
    if image and path.is_file():
        shown = f'<a href="{_safe(path.resolve().as_uri())}">{shown}</a>'
    score = f'<span class="score">{fields["score"]:.3f}</span>' if "score" in fields else ""
    caption = (
        f'<figcaption title="{_safe(str(fields["source"]))}">{score}{_safe(name)}</figcaption>'
    )
    return f"<figure>{shown}{caption}</figure>"


def _named(fields: Mapping[str, Any]) -> str:
    moment = f" at {fields['time_s']:.2f} s" if fields.get("time_s") else ""
    return f"{Path(fields['source']).name}{moment}"


def _thumbnail(source: str, index: int) -> str:
    """A small JPEG as a data URI; empty where the picture is no longer to be had."""
    if not Path(source).is_file():
        return ""
    try:
        image_bgr = frame_at(source, index)
    except InputError:
        return ""
    height, width = image_bgr.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size_wh = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…"


def _safe(text: str) -> str:
    """Text as it may stand in the page, in attributes too (rule W2)."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return escape(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", whole), quote=True)
