"""A number that was measured, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.jsonform import field

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Figure:
    """A number, or null with the reason why there is none (rule R1 of jetlift.runtime.record)."""

    value: int | float | None = field(doc="The number; null where there is none")
    reason: str = field(doc="Why it is null; left out where it is not", default="")

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.reason):
            raise ValueError("a figure has either a value or a reason why it has none")
        if isinstance(self.value, float) and self.value.is_integer():
            # One way to write a number, so that a record read and written again is the same.
            object.__setattr__(self, "value", int(self.value))

    @classmethod
    def missing(cls, reason: str) -> Self:
        """A figure that there is none of."""
        return cls(None, reason)
