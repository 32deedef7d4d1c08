"""Options behind the name of a live input, as in `?size=1280x720&fps=30`.

Rules:
    O1  An option is `key=value`; `&` or `,` stands between two. Each may be given once.
    O2  An option that the input does not know, or a value out of its range, is refused with what
        it knows.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jetlift.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_MOST_SIDE_PX = 16_384


class Options:
    """The options of one input. Ask for each, then call `finish`.

    Args:
        name: The input as it may be shown (without passwords).
        text: What stands behind its `?` or `#`.

    Raises:
        UsageError: It is not of this form (rule O1).
    """

    def __init__(self, name: str, text: str) -> None:
        self._name, self._known = name, dict[str, str]()
        self._given: dict[str, str] = {}
        for part in re.split("[&,]", text) if text else ():
            key, equals, value = part.partition("=")
            if not (key and equals and value) or key in self._given:
                raise UsageError(
                    f"{name} has the option {part!r}" + (" twice" if key in self._given else ""),
                    expected="Options like size=1280x720&fps=30, each once",
                )
            self._given[key] = unquote(value)

    def word(self, key: str, choices: Collection[str]) -> str | None:
        """One of some words.

        Raises:
            UsageError: It is another word.
        """
        value = self._take(key, " or ".join(choices))
        if value is not None and value not in choices:
            raise self._refusal(key, value)
        return value

    def text(self, key: str, pattern: str, what: str) -> str | None:
        """A text of a given form.

        Args:
            key: The option.
            pattern: Regular expression that the whole text matches.
            what: The form in words.

        Raises:
            UsageError: It has another form.
        """
        value = self._take(key, what)
        if value is not None and not re.fullmatch(pattern, value):
            raise self._refusal(key, value)
        return value

    def size_wh(self, key: str) -> tuple[int, int] | None:
        """Width and height in pixels, written `1280x720`.

        Raises:
            UsageError: It is written in another way, or a side is not 1 to 16,384.
        """
        value = self._take(key, "a size like 1280x720")
        if value is None:
            return None
        match = _SIZE.fullmatch(value)
        sides = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(1 <= side <= _MOST_SIDE_PX for side in sides):
            raise self._refusal(key, value)
        return sides

    def number(self, key: str, least: float, most: float) -> float | None:
        """A number of a range, ends included.

        Raises:
            UsageError: It is none, or out of the range.
        """
        value = self._take(key, f"{least:g} to {most:g}")
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            raise self._refusal(key, value) from None
        if not (math.isfinite(number) and least <= number <= most):
            raise self._refusal(key, value)
        return number

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A whole number of a range, ends included.

        Raises:
            UsageError: It is none, or out of the range.
        """
        number = self.number(key, least, most)
        if number is None:
            return None
        if not number.is_integer():
            raise self._refusal(key, str(number))
        return int(number)

    def finish(self) -> None:
        """Refuse what nobody asked for (rule O2).

        Raises:
            UsageError: An option is not known.
        """
        if self._given:
            known = ", ".join(f"{key} ({what})" for key, what in self._known.items())
            raise UsageError(
                f"{self._name} has the unknown option {next(iter(self._given))!r}",
                expected=f"Of the options {known}" if known else "No options",
            )

    def _take(self, key: str, what: str) -> str | None:
        self._known[key] = what
        return self._given.pop(key, None)

    def _refusal(self, key: str, value: str) -> UsageError:
        return UsageError(
            f"{self._name} has {key}={value}", expected=f"For {key}: {self._known[key]}"
        )
