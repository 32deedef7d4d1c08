"""Options of an outlet, written behind its name: `https://host/hook#batch=20&token-env=HOOK_TOKEN`.

Rules:
    O1  Options follow the last `#` as KEY=VALUE, joined by `&`; percent-escapes are undone. What
        follows a `#` and does not look like that belongs to the name.
    O2  A key that the outlet does not know is refused, with the list of those it knows.
    O3  A secret is never an option itself: the option names an environment variable that holds it.
        No message shows a secret, nor the part of an address that may hold one.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from jetlift.runtime.errors import UsageError
from jetlift.runtime.streams.address import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_OPTIONS = re.compile(r"[a-z][a-z-]*=[^&#]*(?:&[a-z][a-z-]*=[^&#]*)*")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_YES, _NO = {"1", "yes", "true", "on"}, {"0", "no", "false", "off"}


class Options:
    """Options of one outlet. Each is taken once; `finish` refuses what nobody took (rule O2).

    Args:
        spec: The whole name with its options, for messages.
        given: Texts by key.
        environment: Where secrets are looked up; the process's own unless given.
    """

    def __init__(
        self, spec: str, given: Mapping[str, str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._spec, self._left = shown(spec), dict(given)
        self._known: list[str] = []
        self._environment = os.environ if environment is None else environment

    def text(self, key: str, default: str = "") -> str:
        """A text as it is given."""
        self._known.append(key)
        return self._left.pop(key, default)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of some words, the first unless given."""
        value = self.text(key, choices[0])
        if value not in choices:
            raise self._wrong(key, value, f"one of {', '.join(choices)}")
        return value

    def number(self, key: str, default: float | None, *, least: float = 0.0) -> float | None:
        """A number, at least `least`."""
        value = self.text(key)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not least <= number < math.inf:
            raise self._wrong(key, value, f"a number, {least:g} or more")
        return number

    def whole(self, key: str, default: int, *, least: int = 0) -> int:
        """A whole number, at least `least`."""
        number = self.number(key, default, least=least)
        if number is None or number != int(number):
            raise self._wrong(key, str(number), "a whole number")
        return int(number)

    def flag(self, key: str) -> bool:
        """Whether it is on; off unless given."""
        value = self.text(key, "no").lower()
        if value not in _YES | _NO:
            raise self._wrong(key, value, "yes or no")
        return value in _YES

    def secret(self, key: str) -> str:
        """The secret in the environment variable that the option names; empty without one (O3).

        Raises:
            UsageError: There is no such variable, or what it holds cannot be sent in a header.
        """
        variable = self.text(key)
        if not variable:
            return ""
        value = self._environment.get(variable, "").strip()
        if not _VISIBLE.fullmatch(value):
            raise UsageError(
                f"Option {key} of {self._spec} names {variable}, which "
                + ("holds blanks or signs beyond ASCII" if value else "is not set"),
                expected="An environment variable that holds the secret",
                do="Set it where jetlift is started, as in a service's EnvironmentFile",
            )
        return value

    def finish(self) -> None:
        """Refuse what nobody took.

        Raises:
            UsageError: An option has no meaning here (rule O2).
        """
        if self._left:
            raise UsageError(
                f"{self._spec} has the options {', '.join(sorted(self._left))}",
                expected=f"Some of {', '.join(sorted(self._known))}" if self._known else "None",
            )

    def _wrong(self, key: str, value: str, expected: str) -> UsageError:
        return UsageError(
            f"Option {key} of {self._spec} is {value!r}", expected=f"Expected {expected}"
        )


def split_options(spec: str) -> tuple[str, Options]:
    """A name without its options, and these (rule O1)."""
    name, mark, behind = spec.rpartition("#")
    if not mark or not name or not _OPTIONS.fullmatch(behind):
        return spec, Options(spec, {})
    return name, Options(spec, dict(parse_qsl(behind, keep_blank_values=True)))


def split_address(address: str, *, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of an address that names a host and holds no password.

    Raises:
        UsageError: It has another scheme, no host, a port that cannot be, or a password.
    """
    named = shown(address)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{named} is no address: {error}") from error
    if parts.scheme not in schemes or not host or port == 0:
        raise UsageError(
            f"Got the address {named}",
            expected=f"{' or '.join(f'{scheme}://HOST[:PORT]' for scheme in schemes)}",
        )
    if parts.username is not None:
        raise UsageError(
            f"The address {named} came with a user or password",
            expected="None, since everybody on this machine can read a command line",
            do="Put the secret into an environment variable and name that in an option",
        )
    return parts
