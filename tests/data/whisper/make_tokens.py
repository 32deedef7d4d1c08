"""Makes tokens.json: ids that OpenAI's own tokenizer gives, and as many ranks as they need.

    python -m venv reference
    reference/bin/pip install tiktoken
    reference/bin/pip install --no-deps openai-whisper==20250625
    reference/bin/python tests/data/whisper/make_tokens.py

A token is made of two others, they of two others, down to bytes; with the ranks of these alone a
text has the same ids as with all 50,257, so that the file is small and the ids are the real ones.
"""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import itertools
import json
import sys
from pathlib import Path

TEXTS = (
    "吾輩は猫である。名前はまだ無い。",
    "メロスは激怒した。 東京タワーへ行きましょう!",
    " And so my fellow Americans, ask not what your country can do for you",
    " I don't know; we'll see. It's 3.14159 or 42%",
    " Die Straßenbahn fährt über die Brücke, 1.234,56 €",
    " Où est passé l'élève ? Ça va, señor Müller-Łukasiewicz",
    " 👩‍👩‍👧 🎉 naïve café 🇯🇵",
    " 你好,世界。 안녕하세요 สวัสดี नमस्ते مرحبا Привет",
    "  two  spaces\n\nand\tlines ",
)


def main() -> None:
    reference = _tokenizer_module()
    ranks: dict[str, dict[str, int]] = {}
    rows: list[dict[str, object]] = [{"text": text} for text in TEXTS]
    for name in ("multilingual", "gpt2"):
        encoding = reference.get_encoding(name)
        every = encoding._mergeable_ranks
        needed = {bytes([byte]) for byte in range(256)}
        for row, text in zip(rows, TEXTS, strict=True):
            row[name] = encoding.encode(text)
            for token in encoding.encode(text):
                needed |= _made_of(encoding.decode_single_token_bytes(token), every)
        ranks[name] = {
            base64.b64encode(token).decode(): every[token]
            for token in sorted(needed, key=every.__getitem__)
        }
    made = {
        "source": f"openai-whisper {importlib.metadata.version('openai-whisper')}, "
        f"tiktoken {importlib.metadata.version('tiktoken')}",
        "texts": rows,
        "ranks": ranks,
    }
    path = Path(__file__).with_name("tokens.json")
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")


def _tokenizer_module():
    """openai-whisper's tokenizer alone: the package itself would import torch."""
    file = importlib.metadata.distribution("openai-whisper").locate_file("whisper/tokenizer.py")
    spec = importlib.util.spec_from_file_location("whisper_tokenizer", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _made_of(token: bytes, ranks: dict[bytes, int]) -> set[bytes]:
    """The token and all that it is made of."""
    pieces = [bytes([byte]) for byte in token]
    while len(pieces) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in itertools.pairwise(pieces)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
    if len(pieces) < 2:
        return {token}
    return {token} | _made_of(pieces[0], ranks) | _made_of(pieces[1], ranks)


if __name__ == "__main__":
    main()
