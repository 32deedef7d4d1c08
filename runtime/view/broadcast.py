"""The newest of something for many listeners, each at its own pace."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Broadcast(Generic[T]):
    """Holds the newest value; a listener that comes late finds that one, not those before.

    Args:
        loop: The event loop of its listeners.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._changed = loop, asyncio.Event()
        self._value: T | None = None
        self._closed = False
        self.number = 0

    def post(self, value: T) -> None:
        """Replace the value; for any thread, as long as the loop runs."""
        if not self._loop.is_closed():  # else nobody listens any more
            self._loop.call_soon_threadsafe(self._put, value)

    def close(self) -> None:
        """Let every listener end once it has had the newest value; for any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close)

    @property
    def value(self) -> T | None:
        """The newest value; None before the first. For the loop's thread, as is all below."""
        return self._value

    async def after(self, number: int) -> tuple[int, T] | None:
        """Wait for a value newer than the one of that number.

        Returns:
            The newest value with its number; None where none will come.
        """
        while self.number <= number:
            if self._closed:
                return None
            await self._changed.wait()
        if self._value is None:
            return None
        return self.number, self._value

    async def closed(self) -> None:
        """Wait until it is closed."""
        while not self._closed:
            await self._changed.wait()

    def _put(self, value: T) -> None:
        self._value = value
        self.number += 1
        self._wake()

    def _close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waited_for, self._changed = self._changed, asyncio.Event()
        waited_for.set()
