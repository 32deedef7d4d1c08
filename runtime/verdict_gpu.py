"""What binds a GPU engine: the library and its version, the GPU, the board and its system.

Rules, each with NVIDIA's page:
    G1  A TensorRT engine loads with the very version that built it, major to build number
        (developer.nvidia.com/docs/drive/drive-os/7.0.3/public/drive-os-tensorrt-release-notes,
        release properties). One built version-compatible also loads with newer TensorRT of the same
        major (docs.nvidia.com/deeplearning/tensorrt/10.16.1/getting-started/support-matrix.html);
        that 10 to 11 is supported too is not made use of here.
    G2  A TensorRT engine is for the type of GPU it was built on, and JetPack has no engines that
        are compatible with other hardware (docs.nvidia.com/deeplearning/tensorrt, engine
        compatibility). A type is told by compute capability, SMs that are on, the driver's name,
        and the board's module.
    G3  A TensorRT-RTX engine loads with the very release that built it, and on every GPU of the
        compute capabilities it was built for
        (docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/engine-compatibility.html
        and cpu-engines.html).
    G4  Engines are not portable across platforms (the support matrix of G1); a Jetson Linux of
        another major is taken as one, another CUDA major too. An update within a major changes
        neither where TensorRT stays the same, and is a notice.
Each function returns what is wrong as a clause that can follow the engine's name, else nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jetlift.runtime.host import Host
    from jetlift.runtime.passport import BuiltOn, Passport

TENSORRT, LEAN, RTX = "tensorrt", "tensorrt_lean", "tensorrt_rtx"
_EXTRAS = {"openvino": "cpu", RTX: "rtx", TENSORRT: "tensorrt", LEAN: "lean"}
_JETPACK = {TENSORRT: "python3-libnvinfer", LEAN: "python3-libnvinfer-lean"}
_NAMES = {TENSORRT: "TensorRT", LEAN: "TensorRT's lean runtime", RTX: "TensorRT-RTX"}
UNTOLD_ADVICE = (
    "Let it read /etc/nv_tegra_release; in a container with: "
    "docker run --runtime nvidia -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"
)
_SAME_CLOCK_MHZ = 1.0


def wrong_library(passport: Passport, loader: str) -> str:
    """Whether a library other than the engine's own is to load it."""
    own = passport.library
    if loader == own:
        return ""
    named = _NAMES.get(own, own)
    if (loader, own) != (LEAN, TENSORRT):
        return f"it is an engine of {named}, and {_NAMES.get(loader, loader)} cannot load it"
    if _version_compatible(passport):
        return ""
    return f"it was not built version-compatible, and {_NAMES[LEAN]} loads no other"


def library_advice(passport: Passport, loader: str, bundle: str) -> str:
    """How to get an engine that the library loads, or the library that loads the engine."""
    if (loader, passport.library) == (LEAN, TENSORRT):
        build = f"jetlift build {bundle} --target {passport.target} --version-compatible"
        return f"Load it with tensorrt, or build it again with: {build}"
    run = f"jetlift run {bundle} INPUT --target {passport.target}"
    return f"Load it with {passport.library}, as does: {run}"


def wrong_gpu(passport: Passport, host: Host) -> str:
    """Whether this machine has no GPU of the engine's compute capability (rules G2 and G3)."""
    wanted = passport.compute_capability
    if wanted is None:
        return ""
    either = wanted.replace(" ", " or ")
    if not host.compute_capabilities:
        return (
            f"it needs an NVIDIA GPU of compute capability {either}; none with a driver was found"
        )
    if not set(wanted.split()) & set(host.compute_capabilities):
        found = ", ".join(host.compute_capabilities)
        return f"it needs a GPU of compute capability {either}, and this machine has {found}"
    return ""


def not_first(passport: Passport, host: Host) -> str:
    """How to make the engine's GPU the first one, where it is another; else nothing."""
    wanted = (passport.compute_capability or "").split()
    if not wanted or host.gpu is None or host.gpu.compute_capability in wanted:
        return ""
    found = host.compute_capabilities or ()
    index = next(i for i, capability in enumerate(found) if capability in wanted)
    return f"Make it the first by setting in front of the command: CUDA_VISIBLE_DEVICES={index}"


def no_dla(passport: Passport, host: Host) -> str:
    """Whether the engine runs on a DLA core that this machine lacks."""
    core = None if passport.settings is None else passport.settings.dla_core
    if core is None:
        return ""
    if host.board is None:
        return f"it runs on DLA core {core}, and only a Jetson has one"
    cores = host.board.dla_cores
    if cores is None or core < cores:
        return ""
    has = "none" if cores == 0 else f"{cores}"
    return f"it runs on DLA core {core}, counted from 0, and this board shows {has}"


def install_advice(library: str, host: Host) -> str:
    """How an engine library is installed here."""
    if host.board is not None and library in _JETPACK:
        return f"Install it from JetPack with: sudo apt-get install {_JETPACK[library]}"
    return f"Install it with: pip install 'jetlift[{_EXTRAS[library]}]'"


def untold(passport: Passport, host: Host) -> str:
    """Whether this Jetson keeps the release of its system to itself (rule G4)."""
    if passport.library != TENSORRT or host.board is None or host.board.l4t is not None:
        return ""
    return "this Jetson does not tell its Jetson Linux release, which the engine may not fit"


def old_driver(passport: Passport, host: Host) -> str:
    """Whether the driver serves no CUDA as new as the engine's."""
    wanted = passport.cuda_version
    if wanted is None or host.gpu is None or _major(host.gpu.driver_version) >= _major(wanted):
        return ""
    return f"it was built with CUDA {wanted}, and the driver serves {host.gpu.driver_version}"


def driver_advice(host: Host) -> str:
    """How a newer driver is had."""
    if host.board is not None:
        return (
            "The driver comes with Jetson Linux: flash a JetPack with that CUDA, then build again"
        )
    return "Install a newer NVIDIA driver; what it serves is told by: nvidia-smi"


def other_version(passport: Passport, host: Host, loader: str) -> str:
    """Whether the library's version does not load the engine (rules G1 and G3)."""
    built, found = passport.library_version, host.libraries[loader]
    if _same(built, found) or (_version_compatible(passport) and _newer(built, found)):
        return ""
    name = passport.library
    told = f"{name} {built} built it and {found} is installed"
    if name == RTX:
        return f"{told}; TensorRT-RTX loads engines of its own release alone"
    if name != TENSORRT:
        return told
    if _version_compatible(passport):
        return f"{told}; version-compatible engines load with newer releases of the same major"
    part = _differing(built, found)
    hint = "; built version-compatible, it would load" if _newer(built, found) else ""
    return f"{told}; TensorRT loads its own version's engines alone, and the {part} differs{hint}"


def version_option(passport: Passport) -> str:
    """The option of `jetlift build` that keeps the engine what it was."""
    return " --version-compatible" if _version_compatible(passport) else ""


def other_cuda(passport: Passport, host: Host, loader: str) -> str:
    """Whether the library computes with another CUDA major here (rule G4)."""
    built, found = passport.cuda_version, host.cuda_of(loader)
    if built is None or found is None or _major(built) == _major(found):
        return ""
    return f"it was built with CUDA {built}, and {loader} here computes with {found}"


def other_system(passport: Passport, host: Host) -> str:
    """Whether this Jetson runs a Jetson Linux of another major (rule G4)."""
    if passport.library != TENSORRT or host.board is None or passport.built_on is None:
        return ""
    built, found = passport.built_on.l4t, host.board.l4t
    if built is None or found is None:
        return "its passport does not say under which Jetson Linux it was built"
    if _major(built) == _major(found):
        return ""
    return f"it was built under Jetson Linux {built}, and this board runs {found}"


def other_device(passport: Passport, host: Host) -> str:
    """Whether this is another type of GPU or board of the same compute capability (rule G2)."""
    if passport.library != TENSORRT:
        return ""
    built, gpu = passport.built_on, host.gpu
    if built is None or built.sm_count is None or built.gpu_name is None:
        return "its passport does not say which GPU it was built on"
    if gpu is None:
        return "nobody looked which GPU this machine has, and TensorRT engines are bound to one"
    if problem := _other_board(built, host):
        return f"{problem}; TensorRT engines are bound to the type of device"
    if built.gpu_name != gpu.name:
        return f"it was built on a {built.gpu_name}, and this is a {gpu.name}"
    if built.sm_count == gpu.sm_count:
        return ""
    told = f"it was built on {built.sm_count} SMs, and {gpu.sm_count} are on here"
    mode = None if host.board is None else host.board.power_mode
    if None in (mode, built.power_mode) or mode == built.power_mode:
        return told
    return f"{told}; power mode was {built.power_mode} then and is {mode} now, and may gate SMs"


def notices(passport: Passport, host: Host, loader: str) -> tuple[str, ...]:
    """What does not keep an engine from loading and should be known."""
    found = [_version_notice(passport, host, loader)]
    built, board = passport.built_on, host.board
    if passport.library == TENSORRT and built is not None and board is not None:
        if built.l4t != board.l4t:
            found.append(
                f"It was built under Jetson Linux {built.l4t} and this board runs {board.l4t}. "
                "TensorRT is the same, so it loads."
            )
        found.append(_clock_notice(built, host))
    plugins = () if passport.settings is None else passport.settings.plugins
    if plugins:
        found.append(f"It needs plugins that nobody looked for: {', '.join(plugins)}.")
    return tuple(text for text in found if text)


def target_here(passport: Passport, host: Host) -> str | None:
    """Name of the target that makes an engine for this machine; None for a board.

    Boards have names of their own, which jetlift.jetson knows.
    """
    if passport.library == "openvino" or (not host.compute_capabilities and host.board is None):
        return "cpu"
    if host.board is not None:
        return None
    kinds = {RTX: "rtx", TENSORRT: "gpu"}
    library = next((name for name in (passport.library, *kinds) if name in host.libraries), RTX)
    capabilities = host.compute_capabilities or ("",)
    capability = host.gpu.compute_capability if host.gpu else capabilities[0]
    return f"{kinds[library]}-sm{capability.replace('.', '')}"


def _version_notice(passport: Passport, host: Host, loader: str) -> str:
    built, found = passport.library_version, host.libraries[loader]
    if _same(built, found):
        return ""
    return (
        f"TensorRT {built} built it and {found} loads it, since it is version-compatible. One that "
        "is built for this version alone can be faster."
    )


def _clock_notice(built: BuiltOn, host: Host) -> str:
    board = host.board
    if board is None:
        return ""
    modes, clocks = (built.power_mode, board.power_mode), (built.gpu_clock_mhz, board.gpu_clock_mhz)
    slower = "Its tactics were timed so; one that is built now may be faster."
    if None not in modes and modes[0] != modes[1]:
        return f"It was built in power mode {modes[0]} and this board is in {modes[1]}. {slower}"
    if clocks[0] is None or clocks[1] is None or abs(clocks[0] - clocks[1]) <= _SAME_CLOCK_MHZ:
        return ""
    return (
        f"The GPU could take {clocks[0]:.0f} MHz when it was built, {clocks[1]:.0f} now. {slower}"
    )


def _other_board(built: BuiltOn, host: Host) -> str:
    """Boards are the same where their modules are, else where their model strings are."""
    board = host.board
    if board is None:
        on_board = built.device is not None or built.l4t is not None or built.modules
        return f"it was built on {built.device or 'a Jetson'}, and this is none" if on_board else ""
    if built.modules and board.module is not None:
        if board.module in built.modules:
            return ""
        return f"it was built on module {built.modules[0]}, and this is {board.module}"
    if built.device is not None and built.device == board.device:
        return ""
    return f"it was built on {built.device or 'no Jetson'}, and this is {board.device or 'unnamed'}"


def _version_compatible(passport: Passport) -> bool:
    settings = passport.settings
    return passport.library == TENSORRT and settings is not None and settings.version_compatible


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _major(version: str) -> int:
    return (*_numbers(version), 0)[0]


def _same(built: str, found: str) -> bool:
    """Whether two versions agree. JetPack's package leaves out the build number of others."""
    one, other = built.split("."), found.split(".")
    told = min(len(one), len(other))
    return built == found or (told >= 3 and one[:told] == other[:told])


def _newer(built: str, found: str) -> bool:
    """Whether the installed version is newer, and of the same major."""
    one, other = _numbers(built), _numbers(found)
    return one[:1] == other[:1] and other > one


def _differing(built: str, found: str) -> str:
    names = ("major", "minor version", "patch", "build number")
    pairs = zip(names, _numbers(built), _numbers(found), strict=False)
    return next((name for name, one, other in pairs if one != other), "last number")
