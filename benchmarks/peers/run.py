"""One model's cases: makes what they need, has all contenders measured, keeps the result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.benchmarks.peers import cases as known
from jetlift.benchmarks.peers import form, goals, rounds
from jetlift.benchmarks.peers.agreement import agreement
from jetlift.benchmarks.peers.contender import INSTALL, ContenderProcess
from jetlift.benchmarks.quantisers import last_words
from jetlift.runtime.bundle import Bundle, sha256_of
from jetlift.runtime.errors import JetliftError, MachineError, UsageError
from jetlift.runtime.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jetlift.benchmarks.peers.cases import Case, Contender, Place
    from jetlift.benchmarks.peers.form import CaseResult, ContenderResult
    from jetlift.benchmarks.peers.rounds import Rules, Timed
    from jetlift.runtime.manifest import Detection

_HERE = Path(__file__).parent
_NOT_RUN = "it did not run"


@dataclass(frozen=True)
class Request:
    """What to measure and with what.

    Attributes:
        out: Folder of the results; `work` in it holds what was made for the contenders.
        bundles: Bundle folders by model.
        samples: What each bundle was exported with, by model.
        sound: A sound for Whisper, if any.
        pythons: Interpreters by name; this one where there is none.
        arguments: Further paths that a case needs, as in `ctranslate2`.
        threads: Threads of every contender.
        rules: When a case has been timed enough.
        gpu: Whether contenders of an NVIDIA GPU take part.
    """

    out: Path
    bundles: Mapping[str, Path]
    samples: Mapping[str, Path]
    sound: Path | None = None
    pythons: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    threads: int = 2
    rules: Rules = field(default_factory=rounds.Rules)
    gpu: bool = False

    def python(self, name: str) -> str:
        """The interpreter that has a contender's packages."""
        return self.pythons.get(name, sys.executable)


def run_model(request: Request, name: str, tell: Callable[[str], None]) -> list[CaseResult]:
    """Measure all cases of a model, or take them from an earlier run.

    Raises:
        UsageError: The model needs a bundle or samples that were not named.
        JetliftError: The bundle is refused, or the inputs cannot be made.
    """
    place = _place(request, name, tell)
    missing = _made_elsewhere(request, name, place, tell)
    results = []
    for case in known.CASES[name](place):
        if not (place.folder / case.inputs).is_file():
            tell(f"{case.name}: left out, since no sound was named")
            continue
        key = _key(request, case, place)
        result = form.kept_case(request.out, case.name, key)
        if result is None:
            result = replace(_Measuring(request, case, place, missing, tell).result(), key=key)
            form.keep_case(request.out, result)
        else:
            tell(f"{case.name}: as before")
        results.append(result)
    return results


def _place(request: Request, name: str, tell: Callable[[str], None]) -> Place:
    if name not in known.WITHOUT_BUNDLE and name not in request.bundles:
        raise UsageError(f"No bundle of {name} was named", do=f"Name it: --bundle {name}=FOLDER")
    bundle = Bundle.open(request.bundles[name]) if name in request.bundles else None
    folder = (request.out / "work" / name).resolve()
    if not folder.is_dir():
        tell(f"{name}: make inputs and weights")
        given = [name, str(request.bundles.get(name, "")), str(request.samples.get(name, ""))]
        sound = [] if request.sound is None else [str(request.sound)]
        command = ["-P", "-m", "jetlift.benchmarks.peers.prepare", *given, str(folder), *sound]
        _run([sys.executable, *command], f"make {name}'s inputs")
    return known.Place(bundle, folder, request.gpu, request.arguments)


def _made_elsewhere(
    request: Request, name: str, place: Place, tell: Callable[[str], None]
) -> dict[str, str]:
    """What only another Python can make; why a contender goes without, by its name."""
    makers: dict[str, tuple[str, str, list[str]]] = {}
    if name in {"dinov2", "yolox"}:
        kind = "transformer" if name == "dinov2" else "plain"
        feeds, made = str(place.folder / "calibration.npz"), str(place.folder / "nncf.xml")
        makers["openvino-nncf"] = ("nncf", made, ["nncf", place.graph("fp32"), feeds, made, kind])
    if name == "minilm":
        made = str(place.folder / "optimum")
        makers["optimum"] = (
            "optimum", f"{made}/onnx/model.onnx", ["optimum-text", str(place.folder / "hf"), made],
        )  # fmt: skip
    missing = {}
    for contender, (python, made, arguments) in makers.items():
        if Path(made).exists():
            continue
        tell(f"{name}: make what {contender} reads")
        try:
            _run([request.python(python), str(_HERE / "maker.py"), *arguments], f"make {contender}")
        except MachineError as error:
            missing[contender] = error.got
    return missing


def _run(command: list[str], doing: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        )  # fmt: skip
    except OSError as error:
        raise MachineError(f"Could not {doing}: {error.strerror}") from error
    if done.returncode:
        raise MachineError(f"Could not {doing}: {last_words(done.stderr)}")


def _key(request: Request, case: Case, place: Place) -> str:
    """All that a case's result depends on, but for versions, which its rows tell."""
    sources = [*sorted(_HERE.glob("*.py")), *sorted((_HERE / "ways").glob("*.py"))]
    files = [] if place.bundle is None else [e.sha256 for e in place.bundle.manifest.files]
    return form.fingerprint(
        [
            asdict(case), files, request.threads, asdict(request.rules), dict(request.pythons),
            [sha256_of(path) for path in sources if path.name not in {"table.py", "chart.py"}],
            sha256_of(place.folder / case.inputs),
        ]
    )  # fmt: skip


class _Measuring:
    """One case on its way."""

    def __init__(
        self,
        request: Request,
        case: Case,
        place: Place,
        missing: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._request, self._case, self._place = request, case, place
        self._missing, self._tell = missing, tell
        self._states: dict[str, tuple[form.State, str]] = {}
        self._loaded: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._peaks: dict[str, int] = {}

    def result(self) -> CaseResult:
        """Load all, have each compute every input once, then take turns."""
        case, rules = self._case, self._request.rules
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="jetlift-peers-") as folder:
            running: dict[str, ContenderProcess] = {}
            for contender in case.contenders:
                process = self._opened(contender, stack, Path(folder))
                if process is not None:
                    running[contender.name] = process
            with np.load(self._place.folder / case.inputs, allow_pickle=False) as arrays:
                inputs = len({name.partition("/")[0] for name in arrays.files})
            load = Figure(round(os.getloadavg()[0], 2))
            timed = rounds.interleave(
                running, inputs, rules, tell=lambda told: self._tell(f"{case.name}: {told}")
            )
        self._states.update({name: ("failed", told) for name, told in timed.gone.items()})
        ours = tuple(name for name in (known.INT8, known.FP32) if name in timed.turns_ms)
        return form.CaseResult(
            name=case.name,
            title=case.title,
            words=case.words,
            key="",
            threads=self._request.threads,
            rounds=max(map(len, timed.turns_ms.values()), default=0),
            load_before=load,
            reference=case.reference,
            ours=ours,
            fidelity=_fidelity(self._place.bundle),
            contenders=tuple(self._row(item, timed, ours) for item in case.contenders),
        )

    def _opened(
        self, contender: Contender, stack: ExitStack, folder: Path
    ) -> ContenderProcess | None:
        name = contender.name
        self._tell(f"{self._case.name}: load {contender.title} ({contender.precision})")
        if name in self._missing:
            self._states[name] = ("failed", self._missing[name])
            return None
        try:
            process = ContenderProcess(
                contender.way,
                self._request.python(contender.way.python),
                self._place.folder / self._case.inputs,
                self._request.threads,
            )
            stack.enter_context(process)
            self._loaded[name] = process.loaded
            path = folder / f"{name}.npz"
            self._peaks[name] = int(process.output(path)["peak_bytes"])
        except MachineError as error:
            state: form.State = "not installed" if error.do == INSTALL else "failed"
            self._states[name] = (state, error.got)
            return None
        with np.load(path, allow_pickle=False) as arrays:
            self._outputs[name] = {key: arrays[key] for key in arrays.files}
        self._states[name] = ("ran", "")
        return process

    def _row(self, contender: Contender, timed: Timed, ours: tuple[str, ...]) -> ContenderResult:
        name, loaded = contender.name, self._loaded.get(contender.name, {})
        state, told = self._states[name]
        turns = timed.turns_ms.get(name, [])
        figures, right = self._agreement(contender) if turns else ({}, None)
        return form.ContenderResult(
            name=name,
            title=contender.title,
            precision=contender.precision,
            note=contender.note,
            state=state,
            told=told.replace(str(self._place.folder), "work"),
            versions=loaded.get("versions", {}),
            loaded_s=_figure(loaded.get("loaded_s")),
            peak_bytes=_figure(self._peaks.get(name)),
            turns_ms=tuple(turns),
            median_ms=_figure(round(float(np.median(turns)), 4) if turns else None),
            ratios=tuple(
                form.Ratio(own, *rounds.figures(turns, timed.turns_ms[own]))
                for own in ours
                if turns and own != name
            ),
            agreement=figures,
            right=right,
        )

    def _agreement(self, contender: Contender) -> tuple[dict[str, float], bool | None]:
        case = self._case
        reference = self._outputs.get(case.reference)
        if reference is None or not contender.compared:
            return {}, None
        try:
            return agreement(
                case.kind,
                reference,
                self._outputs[contender.name],
                detection=_detection(self._place.bundle),
                said=self._said(),
            )
        except (JetliftError, ValueError):  # outputs of a form that cannot be compared
            return {}, False

    def _said(self) -> list[str]:
        path = (self._place.folder / self._case.inputs).with_suffix(".txt")
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _detection(bundle: Bundle | None) -> tuple[Detection, tuple[int, int]] | None:
    if bundle is None:
        return None
    for part in bundle.manifest.parts.values():
        spec = part.preprocess
        if part.detection is not None and spec is not None and spec.kind == "image":
            return part.detection, (spec.size_wh[0], spec.size_wh[1])
    return None


def _fidelity(bundle: Bundle | None) -> str:
    if bundle is None:
        return ""
    judged = [
        part.variants["int8"].fidelity
        for part in bundle.manifest.parts.values()
        if "int8" in part.variants
    ]
    if not judged or any(item is None for item in judged):
        return "was not judged"
    met = all(item.met for item in judged if item is not None)
    return goals.WITHIN if met else goals.MISSES


def _figure(value: float | None) -> Figure:
    return Figure.missing(_NOT_RUN) if value is None else Figure(value)
