"""The command that tells of targets: which there are, and what a board is and can do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from jetlift import console
from jetlift.cli.app import app
from jetlift.cli.options import JsonFlag

if TYPE_CHECKING:
    from jetlift.engines.targets import Target
    from jetlift.jetson.abilities import Ability
    from jetlift.jetson.facts import Device, Release
    from jetlift.runtime.host import Host


@app.command(epilog="Example: jetlift targets orin-nano-8gb")
def targets(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="One target; all of them if not given."),
    ] = None,
    *,
    jetpack: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--jetpack", help="JetPack release to tell a board's abilities under."),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/targets.md, the table of what builds.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List what engines can be built for; or one board's facts, modes, releases and abilities."""
    from jetlift.engines.targets import TARGETS
    from jetlift.engines.targets_page import page
    from jetlift.runtime.host import here

    if as_markdown:
        sys.stdout.write(page())
        return
    if name is not None:
        _show_one(name, jetpack, as_json=as_json)
        return
    host = here()
    if as_json:
        console.show_json([_target_data(item, host) for item in TARGETS.values()])
        return
    rows = [
        (
            item.name,
            item.library,
            item.compute_capability or "",
            item.description,
            _here(item, host),
        )
        for item in TARGETS.values()
    ]
    console.show_table("Targets", ("target", "library", "SM", "what it is", "here"), rows)


def _here(target: Target, host: Host) -> str:
    from jetlift.engines.where import is_here

    return "yes" if is_here(target, host) else "no"


def _target_data(target: Target, host: Host) -> dict[str, Any]:
    return {
        "name": target.name,
        "library": target.library,
        "compute_capability": target.compute_capability,
        "description": target.description,
        "board": target.device.product if target.device else None,
        "here": _here(target, host) == "yes",
    }


def _show_one(name: str, jetpack: str | None, *, as_json: bool) -> None:
    from jetlift.engines.targets import target as target_of
    from jetlift.jetson.abilities import abilities
    from jetlift.jetson.facts import default_release, devices, release, releases_for
    from jetlift.runtime import jsonform
    from jetlift.runtime.host import here

    device = devices().get(name)  # boards that are refused have facts too
    if device is None:
        target = target_of(name)
        data = _target_data(target, here())
        if as_json:
            console.show_json(data)
        else:
            rows = [(key.replace("_", " "), str(value)) for key, value in data.items()]
            console.show_table(f"Target {name}", ("what", "value"), rows)
        return
    known = releases_for(device)
    chosen = (release(jetpack),) if jetpack else known
    able = {item.version: abilities(device, item) for item in chosen}
    if as_json:
        told = {key: {k: jsonform.to_data(a) for k, a in row.items()} for key, row in able.items()}
        facts = jsonform.to_data(device)
        shown = [jsonform.to_data(item) for item in known]
        console.show_json({"device": facts, "releases": shown, "abilities": told})
        return
    _show_facts(device)
    _show_modes(device)
    _show_releases(device, known)
    if known:
        version = jetpack or default_release(device).version
        _show_abilities(device, version, able[release(version).version])


def _show_facts(device: Device) -> None:
    dense, said = device.dense, device.marketing
    bandwidth = f"{device.memory_bandwidth_gbps:g} GB/s over {device.memory_bus_bits} bits"
    memory = f"{device.memory_gb} GB {device.memory_type}, shared by CPU and GPU, {bandwidth}"
    rows = [
        ("GPU", f"{device.architecture}, SM {device.compute_capability}, {device.sm_count} SMs"),
        ("GPU clock", f"up to {device.gpu_max_mhz:g} MHz"),
        ("level 2 cache", f"{device.l2_kb} KB" if device.l2_kb else "not known"),
        ("memory", memory),
        ("DLA", _dla_of(device)),
        ("dense peak of the GPU", _peaks(vars(dense))),
        ("printed for the module", _peaks(vars(said)) or "nothing known"),
        ("module", ", ".join(device.modules) or "not known"),
        ("computed, not printed", ", ".join(device.derived) or "nothing"),
        ("source", device.source),
    ]
    rows += [("note", device.notes)] if device.notes else []
    console.show_table(device.product, ("fact", "value"), rows)


def _dla_of(device: Device) -> str:
    if not device.dla_count:
        return "none"
    peak = f", {device.dla_int8_tops:g} dense INT8 TOPS together" if device.dla_int8_tops else ""
    return f"{device.dla_count} at up to {device.dla_mhz:g} MHz{peak}"


def _peaks(figures: dict[str, Any]) -> str:
    """Figures under readable names, as in `int8 20.48 TOPS`; those that nobody tells left out."""
    told = []
    for key, value in figures.items():
        if value is None or value == "":
            continue
        words = key.replace("_tflops", " TFLOPS").replace("_tops", " TOPS").replace("_", " ")
        name, _, unit = words.partition(" T")
        told.append(f"{name} {value:g} T{unit}" if unit else f"{name}: {value}")
    return ", ".join(told)


def _show_modes(device: Device) -> None:
    from jetlift.jetson.facts import PowerMode

    def row(mode: PowerMode) -> tuple[str, ...]:
        memory = f"{mode.memory_mhz:g}" if mode.memory_mhz else "not known"
        return (
            mode.name,
            str(mode.id),
            f"{mode.gpu_max_mhz:g}",
            f"{mode.sm_active} of {device.sm_count}",
            memory,
            f"{mode.dla_mhz:g}" if mode.dla_mhz else "",
            "starts in it" if mode.default else "",
            mode.notes,
        )

    if not device.power_modes:
        console.say(f"The power modes of {device.product} are not known.")
        return
    head = ("mode", "id", "GPU MHz", "SMs", "memory MHz", "DLA MHz", "", "note")
    console.show_table("Power modes", head, map(row, device.power_modes))


def _show_releases(device: Device, known: tuple[Release, ...]) -> None:
    from jetlift.jetson.abilities import later_tensorrt
    from jetlift.jetson.facts import refusal

    if not known:
        console.say(f"jetlift builds nothing for it: {refusal(device)}.")
        return
    rows = []
    for item in known:
        later = later_tensorrt(device, item)
        tensorrt = item.tensorrt + (f" or {later.tensorrt}" if later else "")
        rows.append((item.version, item.l4t or "not known", tensorrt, item.cuda, item.python))
    head = ("JetPack", "Jetson Linux", "TensorRT", "CUDA", "Python")
    console.show_table("Releases", head, rows)


def _show_abilities(device: Device, version: str, able: dict[str, Ability]) -> None:
    rows = [
        (key.replace("_", " "), "yes" if item.able else "no", item.reason, item.source)
        for key, item in able.items()
    ]
    title = f"{device.name} under JetPack {version}"
    console.show_table(title, ("ability", "", "why", "source"), rows)
