"""Words that may leave the machine: no folder of it, no host, no password (rule R4 of records).

Rules:
    U1  A path becomes its last step; device files such as /dev/video0 stay, since every machine
        has them.
    U2  An address becomes its kind, as in `rtsp://...`; what stood in it may be a password.
    U3  What follows an option whose name speaks of a secret is left out.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HIDDEN = "..."
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://[^\s'\"]*")
# A csi camera's number is no address, nor is the size of a drawn picture.
_NO_ADDRESS = re.compile(r"csi://\d+|synthetic://[\dx@.]+(?:\?frames=\d+)?")
_PATH = re.compile(
    r"(?<![\w.:/])(?:~[\w.-]*)?/(?!dev/(?:video|snd|shm))(?:[^\s'\"/]+/)*([^\s'\"/]*)"
)
_HOST = re.compile(
    r"\b(?:\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?"
    r"|(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+):\d{2,5})\b"
)
# A full version of TensorRT has the form of an address.
_BEFORE_A_VERSION = re.compile(r"(?:TensorRT|RTX|[Vv]ersion)[ -]$")
_SECRET = re.compile(
    r"(--?[\w-]*(?:token|password|secret|header|auth|key)[\w-]*)(=.*)?", re.IGNORECASE
)


def public_text(text: str) -> str:
    """A sentence without folders and addresses (rules U1 and U2)."""
    without = _URL.sub(_address, text)
    return _HOST.sub(_host, _PATH.sub(lambda found: found[1] or _HIDDEN, without))


def public_name(source: str) -> str:
    """The name of a file, device or stream (rules U1 and U2)."""
    if "://" in source or source.startswith("/dev/"):
        return public_text(source)
    absolute = source.startswith(("/", "~"))
    return source.rstrip("/").rpartition("/")[2] or _HIDDEN if absolute else source


def public_sentence(text: str, source: str) -> str:
    """A sentence that may name the source, whose name may have spaces in it."""
    return public_text(text.replace(source, public_name(source)) if source else text)


def public_command(words: Sequence[str]) -> str:
    """A command line as it may be shown (rules U1 to U3)."""
    shown, secret = [], False
    for word in words:
        found = _SECRET.fullmatch(word)
        if secret:
            shown.append(_HIDDEN)
        elif found is not None and found[2]:
            shown.append(f"{found[1]}={_HIDDEN}")
        elif word.startswith("-") and "=" in word:
            option, _, value = word.partition("=")
            shown.append(f"{option}={public_name(value)}")
        else:
            shown.append(public_name(word))
        secret = found is not None and not found[2]
    return shlex.join(shown)


def _address(found: re.Match[str]) -> str:
    whole = found[0]
    return whole if _NO_ADDRESS.fullmatch(whole) else f"{found[1]}://{_HIDDEN}"


def _host(found: re.Match[str]) -> str:
    is_version = _BEFORE_A_VERSION.search(found.string, 0, found.start()) and ":" not in found[0]
    return found[0] if is_version else _HIDDEN
