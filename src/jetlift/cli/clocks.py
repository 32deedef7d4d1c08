"""Clocks that a command fixes, and those that a killed one left fixed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from jetlift import console

if TYPE_CHECKING:
    from collections.abc import Iterator

FixClocksFlag = Annotated[
    bool,
    typer.Option(
        "--fix-clocks",
        help="Hold the clocks at the limit of the power mode meanwhile, as jetson_clocks does, and "
        "put them back (docs/power.md). Needs root.",
    ),
]


@contextlib.contextmanager
def held_clocks(*, wanted: bool) -> Iterator[None]:
    """Hold the clocks at their limit where that is wanted.

    Raises:
        BusyError: Another process holds them.
        MachineError: They cannot be set here.
    """
    if not wanted:
        yield
        return
    from jetlift.jetson.fix_clocks import FixedClocks
    from jetlift.jetson.sysfs import board_root

    with FixedClocks(board_root()):
        console.say("The clocks are held at their limit, and are put back at the end.")
        yield


def recover_clocks(*, strict: bool = False) -> bool:
    """Put back, and tell, what a killed command left fixed; one look at a file where it is not so.

    Args:
        strict: Raise where it cannot be done; else it is told, and the command goes on.

    Returns:
        Whether there was anything to put back.

    Raises:
        MachineError: It cannot be done.
    """
    from jetlift.jetson.sysfs import RESTORE_FILE, board_root

    root = board_root()
    if not (root / RESTORE_FILE).exists():
        return False
    from jetlift.jetson.restore import is_held, recover
    from jetlift.runtime.errors import JetliftError

    if strict and is_held(root):
        console.say("A living process holds the clocks, and puts them back at its end.")
        return True
    try:
        told = recover(root)
    except JetliftError as error:
        if strict:
            raise
        told = str(error)
    if told is not None:
        console.say(told)
    return told is not None
