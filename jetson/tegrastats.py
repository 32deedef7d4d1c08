"""What a line of tegrastats says, of every board and release whose lines were found.

Rules:
    E1  What a line does not tell is None or absent; it is never zero. `GR3D_FREQ @[314,314,314]`
        (Thor, JetPack 7.1) tells clocks and no load, JetPack 7.2 without root tells neither.
    E2  A temperature of -256 C stands for a part whose supply is switched off: it is in `gated` and
        among no temperatures.
    E3  The second figure of a rail or a temperature is a mean, the third the highest, since
        tegrastats began; only the first is of now.
    E4  What a line has beside this (video engines, the camera's processor) is left out.
Where the lines come from: tests/jetson/tegrastats/README.md.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field

GATED_C = -256.0
_LIMIT_S = 5.0
_OF = re.compile(r"\b(?P<kind>RAM|SWAP) (?P<used>\d+)/(?P<total>\d+)MB")
_CPU = re.compile(r"\bCPU \[(?P<cores>[^\]]*)\](?:@(?P<all>\d+))?")
_CORE = re.compile(r"(?P<busy>\d+)%(?:@(?P<mhz>\d+))?")
_UNIT = re.compile(
    r"\b(?P<name>EMC|GR3D\d*)_FREQ (?:(?P<busy>\d+)%)?(?:@\[?(?P<mhz>[\d,]*)\]?)?(?=\s|$)"
)
_WARMTH = re.compile(r"(?<!\S)(?P<name>[A-Za-z][\w-]*)@(?P<now>-?\d+(?:\.\d+)?)C(?=[\s/]|$)")
# JetPack 4 prints `VDD_IN 3024/3028`, later ones `VDD_IN 4462mW/4462mW`, 7.2 a third figure.
_RAIL = re.compile(
    r"(?<!\S)(?P<name>[A-Za-z]\w*) (?P<now>-?\d+)(?:mW(?:/-?\d+mW){0,2}|/-?\d+)(?=\s|$)"
)
_UNCONNECTED = "NC"


@dataclass(frozen=True)
class Core:
    """One core of the processor; both None where it is switched off.

    Attributes:
        busy_percent: Load at its present clock.
        mhz: Its clock.
    """

    busy_percent: int | None
    mhz: int | None


@dataclass(frozen=True)
class Unit:
    """The GPU or the memory controller.

    Attributes:
        busy_percent: Load at its present clock, or None (rule E1).
        mhz: Clock of each of its clusters; empty where the line tells none.
    """

    busy_percent: int | None = None
    mhz: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line of tegrastats (rules E1 to E4).

    Attributes:
        ram_mb: Used and total memory, or None.
        swap_mb: The same of swap.
        cores: In order, those that are off among them.
        memory: The memory controller, EMC.
        gpu: The GPU, GR3D, with the clocks of all clusters.
        temperatures_c: By the sensor's name as printed, in degrees Celsius.
        gated: Sensors of parts that are switched off (rule E2).
        rails_w: By the rail's name, in watts, now.
    """

    ram_mb: tuple[int, int] | None = None
    swap_mb: tuple[int, int] | None = None
    cores: tuple[Core, ...] = ()
    memory: Unit = Unit()
    gpu: Unit = Unit()
    temperatures_c: dict[str, float] = field(default_factory=dict)
    gated: tuple[str, ...] = ()
    rails_w: dict[str, float] = field(default_factory=dict)


def parse(line: str) -> Line:
    """Read one line; whatever it is, what is not understood is left out."""
    used = {
        found["kind"]: (int(found["used"]), int(found["total"])) for found in _OF.finditer(line)
    }
    units = _units(line)
    warmth = {found["name"]: float(found["now"]) for found in _WARMTH.finditer(line)}
    return Line(
        ram_mb=used.get("RAM"),
        swap_mb=used.get("SWAP"),
        cores=_cores(line),
        memory=units.get("EMC", Unit()),
        gpu=_gpu(units),
        temperatures_c={name: told for name, told in warmth.items() if told > GATED_C},
        gated=tuple(name for name, told in warmth.items() if told <= GATED_C),
        rails_w={
            found["name"]: int(found["now"]) / 1000
            for found in _RAIL.finditer(line)
            if found["name"] not in (_UNCONNECTED, *used)
        },
    )


def read_once(interval_ms: int = 100) -> Line | None:
    """Ask the vendor's command for one line; None where it is absent, fails or keeps silent."""
    command = ["tegrastats", "--interval", str(interval_ms)]
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except OSError:
        return None
    # It goes on for ever: the end comes by our hand, here or where it never writes a line.
    with child:
        try:
            told = _first_line(child)
        finally:
            child.kill()
    return None if not told.strip() else parse(told)


def _first_line(child: subprocess.Popen[bytes]) -> str:
    import selectors

    if child.stdout is None:
        return ""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        if not selector.select(_LIMIT_S):
            return ""
        return child.stdout.readline().decode(errors="replace")


def _cores(line: str) -> tuple[Core, ...]:
    found = _CPU.search(line)
    if found is None:
        return ()
    common = None if found["all"] is None else int(found["all"])
    return tuple(_core(text.strip(), common) for text in found["cores"].split(","))


def _core(text: str, common_mhz: int | None) -> Core:
    found = _CORE.fullmatch(text)
    if found is None:  # `off`
        return Core(None, None)
    return Core(int(found["busy"]), common_mhz if found["mhz"] is None else int(found["mhz"]))


def _units(line: str) -> dict[str, Unit]:
    return {
        found["name"]: Unit(
            None if found["busy"] is None else int(found["busy"]),
            tuple(int(mhz) for mhz in (found["mhz"] or "").split(",") if mhz),
        )
        for found in _UNIT.finditer(line)
    }


def _gpu(units: dict[str, Unit]) -> Unit:
    """JetPack 5 tells each cluster apart, as GR3D_FREQ and GR3D2_FREQ."""
    parts = [unit for name, unit in units.items() if name.startswith("GR3D")]
    if not parts:
        return Unit()
    return Unit(parts[0].busy_percent, tuple(mhz for unit in parts for mhz in unit.mhz))
