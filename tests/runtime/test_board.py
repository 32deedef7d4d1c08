"""What a Jetson tells, read from what real ones told (boards/README.md)."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetlift.runtime import board
from jetlift.runtime.board import BoardState, read_board

BOARDS = Path(__file__).parent / "boards"


@pytest.fixture
def no_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an nvpmodel of one's own in front of PATH."""
    folder.mkdir()
    path = folder / "nvpmodel"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("no_command")
def test_an_orin_nano_under_the_super_firmware() -> None:
    assert read_board(BOARDS / "orin-nano-super") == BoardState(
        device="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        l4t="36.4.3",
        power_mode="MAXN_SUPER",
        gpu_clock_mhz=1020.0,
        memory_clock_mhz=3199.0,
        module="p3767-0005",
        dla_cores=0,
    )


def test_a_command_that_tells_more_than_it_was_asked_is_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As an Orin Nano printed it: tests/jetson/tegrastats/README.md, the place of orin-nano.
    told = (
        "NVPM VERB: Config file: /etc/nvpmodel.conf\\n"
        "NVPM VERB: Current mode: NV Power Mode: MAXN_SUPER\\n2\\n"
    )
    command(tmp_path / "bin", monkeypatch, f"printf '{told}'")
    found = read_board(BOARDS / "agx-orin")
    assert found is not None
    assert found.power_mode == "MAXN_SUPER"


def test_an_agx_orin_whose_mode_only_the_command_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(tmp_path / "bin", monkeypatch, '[ "$*" = -q ] && printf "NV Power Mode: MAXN\\n0\\n"')
    assert read_board(BOARDS / "agx-orin") == BoardState(
        device="NVIDIA Jetson AGX Orin Developer Kit",
        l4t="36.4.0",
        power_mode="MAXN",
        gpu_clock_mhz=1300.5,
        memory_clock_mhz=None,  # 0 stands for no limit
        module="p3701-0005",
        dla_cores=2,
    )


@pytest.mark.usefixtures("no_command")
def test_a_thor() -> None:
    assert read_board(BOARDS / "thor") == BoardState(
        device="NVIDIA Jetson AGX Thor Developer Kit",
        l4t="38.4.0",
        power_mode=None,
        gpu_clock_mhz=1575.0,
        memory_clock_mhz=None,
        module="p3834-0008",
        dla_cores=0,
    )


@pytest.mark.parametrize(
    "path", sorted((BOARDS / "releases").iterdir()), ids=lambda path: path.stem
)
def test_every_release_is_read_from_its_own_words(path: Path) -> None:
    assert board._l4t(path.read_text()) == path.stem


@pytest.mark.usefixtures("no_command")
def test_a_jetson_that_tells_no_release_is_still_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(BOARDS / "orin-nano-super", root)
    (root / "etc/nv_tegra_release").write_text("something else\n")
    found = read_board(root)
    assert found is not None
    assert (found.l4t, found.module) == (None, "p3767-0005")
    (root / "etc/nv_tegra_release").unlink()
    assert read_board(root) == found


@pytest.mark.usefixtures("no_command")
def test_a_container_may_show_the_release_alone(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    shutil.copy(BOARDS / "orin-nano-super/etc/nv_tegra_release", tmp_path / "etc")
    assert read_board(tmp_path) == BoardState(None, "36.4.3", None, None, None)


def test_a_machine_that_is_no_jetson_is_none_and_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(tmp_path / "bin", monkeypatch, f"touch {tmp_path / 'asked'}")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_text("raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert read_board(tmp_path) is None
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        ('printf "NV Power Mode: 15W\\n0\\n"', "15W"),
        ('echo "NVPM WARN: power mode is not set!"', None),
        ('printf "NV Power Mode: 15W\\n0\\n"; exit 7', None),
        ("printf '\\377\\376'", None),
        ("exit 0", None),
    ],
)
def test_what_the_command_may_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, mode: str | None
) -> None:
    command(tmp_path / "bin", monkeypatch, script)
    found = read_board(BOARDS / "thor")
    assert found is not None
    assert found.power_mode == mode


def test_a_command_that_does_not_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    command(tmp_path / "bin", monkeypatch, f"echo $$ > {told}; exec sleep 600")
    monkeypatch.setattr(board, "_QUERY_LIMIT_S", 2.0)
    found = read_board(BOARDS / "thor")
    assert found is not None
    assert found.power_mode is None
    pid = int(told.read_text())
    for _ in range(100):  # its end is seen a moment later at most
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    pytest.fail("nvpmodel still runs")


@pytest.mark.usefixtures("no_command")
def test_a_mode_that_no_file_names_is_not_guessed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(BOARDS / "orin-nano-super", root)
    (root / "var/lib/nvpmodel/status").write_text("pmode:0012\n")
    found = read_board(root)
    assert found is not None
    assert found.power_mode is None


@pytest.mark.parametrize(
    ("compatible", "module"),
    [
        ("nvidia,p3449-0000+p3668-0001\0nvidia,p3668-0001\0nvidia,tegra194\0", "p3668-0001"),
        ("acme,carrier\0nvidia,p3767-0003\0nvidia,tegra234\0", "p3767-0003"),
        ("acme,carrier\0nvidia,tegra234\0", None),
        ("", None),
    ],
)
def test_the_module_is_told_apart_from_its_carrier(compatible: str, module: str | None) -> None:
    assert board._module(compatible) == module


@given(text=st.text())
def test_any_text_is_read_without_failing(text: str) -> None:
    release = board._l4t(text)
    assert release is None or release[0].isdigit()
    assert board._module(text) is None or "p" in text
