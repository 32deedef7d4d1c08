"""Which engines run here where nobody names a target.

Rules:
    T1  An engine that was built for a GPU or board and may load here wins over the CPU, of every
        part that is needed. Whether it may is the judgement of jetlift.runtime.verdict.
    T2  Of several targets, a board's name comes before a GPU's, a named GPU before any GPU; of
        equals the first by name.
    T3  Where no variant is named and the chosen one is not built for a target, the only one that
        is built there is taken.
    T4  What was passed over is told, with the reason, and so is what was taken.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.bundle import ENGINES_FOLDER
from jetlift.runtime.choice import choose_precision
from jetlift.runtime.passport import here, onnx_sha256
from jetlift.runtime.session import CPU
from jetlift.runtime.verdict import judge_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.host import Host

AUTO = "auto"
_GPU = re.compile(r"(?:gpu|rtx)(-sm\d+)?")


@dataclass(frozen=True)
class Choice:
    """A target for this machine.

    Attributes:
        target: Its name.
        precision: The variant that is built for it, where only that is (rule T3); None where the
            usual choice holds.
        notices: What was taken and what was passed over (rule T4).
    """

    target: str
    precision: str | None
    notices: tuple[str, ...]


def choose_target(
    bundle: Bundle, parts: Sequence[str], precision: str | None, *, host: Host | None = None
) -> Choice:
    """Choose where a bundle's parts run on this machine (rules T1 to T4).

    Args:
        bundle: A verified bundle.
        parts: Every part that is needed.
        precision: The variant, where it is fixed.
        host: The machine; this one where it is None.
    """
    built = sorted(_targets(bundle), key=_rank)
    if not built:
        return Choice(CPU, precision, ())
    machine = here() if host is None else host
    passed: list[str] = []
    for target in built:
        variant = precision or _variant(bundle, parts, target)
        problem = _problem(bundle, parts, target, variant, machine)
        if problem is None:
            taken = f"Target {target}: its engines may load here."
            return Choice(target, variant, (*passed, taken))
        passed.append(f"Target {target} is passed over: {problem}.")
    return Choice(CPU, precision, (*passed, "Target cpu is taken."))


def _targets(bundle: Bundle) -> list[str]:
    """Targets beside the CPU that anything is built for."""
    folder = bundle.folder / ENGINES_FOLDER
    found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return [name for name in found if not name.startswith((CPU, "."))]


def _rank(target: str) -> tuple[int, str]:
    """Order of trying (rule T2)."""
    gpu = _GPU.fullmatch(target)
    return (0 if gpu is None else 1 if gpu[1] else 2), target


def _variant(bundle: Bundle, parts: Sequence[str], target: str) -> str | None:
    """None where each part's usual choice is built; else the only one built for all (rule T3)."""
    usual = all(
        bundle.engine_path(target, part, choose_precision(bundle, part, target)).is_file()
        for part in parts
    )
    if usual:
        return None
    built = [
        name
        for name in bundle.part(parts[0])[1].variants
        if all(bundle.engine_path(target, part, name).is_file() for part in parts)
    ]
    return built[0] if len(built) == 1 else None


def _problem(
    bundle: Bundle, parts: Sequence[str], target: str, variant: str | None, host: Host
) -> str | None:
    """Why a target's engines do not run here, as a clause; None where they do."""
    for part in parts:
        name = variant or choose_precision(bundle, part, target)
        path = bundle.engine_path(target, part, name)
        if not path.is_file():
            return f"no {name} engine of part {part} is built for it"
        _, verdict = judge_file(
            path, host,
            onnx_sha256=onnx_sha256(bundle, part, name), target=target,
            bundle=shlex.quote(str(bundle.folder)),
        )  # fmt: skip
        if verdict.action != "load":
            return f"of part {part}, {verdict.reason}"
    return None
