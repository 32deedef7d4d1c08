from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame, TextItem, open_texts
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.search import build_index

if TYPE_CHECKING:
    from pathlib import Path

    from jetlift.runtime.bundle import Bundle


def test_sentences_end_to_end(minilm_bundle: Bundle, tmp_path: Path) -> None:
    """The real MiniLM: neighbours in meaning are neighbours in the index."""
    path = tmp_path / "lines.txt"
    path.write_text("A cat sleeps on the sofa.\nThe robot welds a car door.\nIt rains today.\n")
    with open_session(minilm_bundle, "text", "fp32") as session:
        embed = open_task("embed", minilm_bundle, session, precision="fp32")
        short = embed.run(TextItem("-", 0, "A kitten naps."))
        assert (short["time_s"], short["tokens"], short["truncated"]) == (None, 7, False)
        assert np.linalg.norm(short["embedding"]) == pytest.approx(1, abs=1e-5)
        assert embed.run(TextItem("-", 0, "word " * 300))["truncated"]
        with open_texts([str(path)]) as source:
            index = build_index(minilm_bundle, session, source, precision="fp32", target="cpu")
        search = open_task("search", minilm_bundle, session, precision="fp32", index=index, count=2)
        item = TextItem("-", 0, "an industrial machine in a factory")
        outcome = search.process(item)
        assert outcome.fields["hits"][0]["text"] == "The robot welds a car door."
        assert outcome.fields["hits"][0]["source"] == str(path)
        assert outcome.fields["hits"][0]["index"] == 1
        assert search.draw(item, outcome) is None
        with pytest.raises(UsageError, match="takes texts"):
            embed.run(Frame("a.png", 0, 0.0, np.zeros((4, 4, 3), np.uint8)))
        with pytest.raises(InputError, match="blank"):
            embed.run(TextItem("-", 0, " "))
