"""What every session does alike: check its feeds, refuse use after close, be a context manager.

Rules:
    S1  Feeds are checked before the library sees them.
    S2  Outputs belong to the caller: a later run never changes them.
    S3  A closed session refuses to run; closing twice does nothing.
    S4  Tensor names, types and ranks of an engine that was opened for a part of a bundle are the
        part's. An engine with other ones is not this part's engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.closing import Closing
from jetlift.runtime.errors import PassportError, UsageError
from jetlift.runtime.session.base import check_feeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jetlift.runtime.manifest import Part, TensorSpec
    from jetlift.runtime.session.base import Array, EngineInfo


class SessionBase(Closing):
    """Rules S1 to S4. A library's session adds `_compute` and `_release`."""

    def __init__(
        self, info: EngineInfo, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self._info, self._inputs, self._outputs = info, tuple(inputs), tuple(outputs)
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        """What the engine says of itself."""
        return self._info

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Inputs in the engine's order; a dynamic axis is a name."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Outputs in the engine's order."""
        return self._outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute once.

        Args:
            feeds: One array per input, of its dtype and of a shape that fits its spec. C-contiguous
                arrays are read where they lie; others are copied first.

        Returns:
            One array per output. They belong to the caller: a later run never changes them.

        Raises:
            UsageError: A feed is missing, unknown, of another dtype, or of a shape that cannot fit;
                or the session is closed.
            EngineLibraryError: The library failed.
        """
        self._check(feeds)
        return self._compute(feeds)

    def close(self) -> None:
        """Give back the engine's memory. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._release()

    def _check(self, feeds: Mapping[str, Array]) -> None:
        """Rules S1 and S3."""
        if self._closed:
            raise UsageError(
                "The session is closed", expected="An open one", do="Open another session"
            )
        check_feeds(self._inputs, feeds)

    def _compute(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        raise NotImplementedError

    def _release(self) -> None:
        raise NotImplementedError


def in_place(array: Array) -> Array:
    """The array itself where a library can read it as it lies, else a C-ordered, aligned copy."""
    return np.require(array, requirements=["C", "A"])


def check_threads(threads: int | None) -> None:
    """Refuse a thread count that no library can honour.

    Raises:
        UsageError: It is not positive.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"Got {threads} threads", expected="1 or more, or None")


def named_by(
    part: Part | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
    """Specs of an engine's tensors: the part's where it has one (rule S4), else the library's.

    Raises:
        PassportError: The engine's tensors are not the part's.
    """
    if part is None:
        return inputs, outputs
    return _matched("input", part.inputs, inputs), _matched("output", part.outputs, outputs)


def _matched(
    kind: str, wanted: Sequence[TensorSpec], found: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    by_name = {spec.name: spec for spec in wanted}
    if set(by_name) != {spec.name for spec in found} or any(
        spec.dtype != by_name[spec.name].dtype or len(spec.shape) != len(by_name[spec.name].shape)
        for spec in found
    ):
        raise PassportError(
            f"The engine's {kind}s are {_told(found)}",
            expected=f"The bundle says {_told(wanted)}",
            do="The engine belongs to another graph: build it again with: jetlift build",
        )
    return tuple(by_name[spec.name] for spec in found)


def _told(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs) or "none"
