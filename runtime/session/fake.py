"""A session without a library, for tests of everything that stands above sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jetlift.runtime.session.base import EngineInfo
from jetlift.runtime.session.common import SessionBase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.runtime.manifest import TensorSpec
    from jetlift.runtime.session.base import Array

FAKE_INFO = EngineInfo(library="fake", version="0", arithmetic="f32", threads=1, device="none")


class FakeSession(SessionBase):
    """Checks feeds as every session does and answers with a function of them.

    Args:
        inputs: Specs of what `run` takes.
        outputs: Specs of what it returns.
        compute: From the feeds to one array per output. What it raises, `run` raises.
        info: What `info` says.

    Attributes:
        runs: How often `run` computed.
        closed: Whether `close` was called.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        compute: Callable[[Mapping[str, Array]], Mapping[str, Array]],
        *,
        info: EngineInfo = FAKE_INFO,
    ) -> None:
        super().__init__(info, inputs, outputs)
        self._function = compute
        self.runs = 0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def _compute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.runs += 1
        answer = self._function(feeds)
        return {spec.name: answer[spec.name].copy() for spec in self._outputs}

    def _release(self) -> None:
        """Nothing to give back."""
