"""`jetlift demo`: the main job from nothing on this machine's CPU, with a real model.

Everything is written into one folder: the pictures, the bundle with its engines, the results of
the tasks, and the report. Figures in the report are of this run.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift import console, demo_pictures
from jetlift.runtime.errors import InputError

if TYPE_CHECKING:
    from jetlift.demo_pictures import DemoPictures
    from jetlift.runtime.bundle import Bundle

MODEL = "dinov2-small"
_SEARCH_S = 120.0
RTX_TARGET = "rtx-sm86"
REPORT_FOLDER = "report"


@dataclass(frozen=True)
class _Show:
    """One demo on its way.

    Attributes:
        out: Its folder.
        pictures: The pictures it works on.
        bundle: The exported bundle.
        precision: The variant that the tasks run.
    """

    out: Path
    pictures: DemoPictures
    bundle: Bundle
    precision: str


def run(out: Path, *, time_limit_s: float) -> None:
    """Export, build, run and measure DINOv2-small.

    Args:
        out: Folder to write; it must not exist.
        time_limit_s: Longest time to measure one variant, in seconds.

    Raises:
        InputError: The folder exists.
        JetliftError: Whatever a stage raises.
    """
    from jetlift.export.make import Request, export_recipe
    from jetlift.export.precision.int8 import SearchOptions
    from jetlift.export.recipes import recipe
    from jetlift.runtime.choice import choose_precision

    if out.exists():
        raise InputError(
            f"{out} exists already", expected="A new folder", do="Choose another one with -o"
        )
    _title("1 of 5  Pictures")
    pictures = demo_pictures.make(out / "pictures")
    console.say(f"{pictures.origin}: {out / 'pictures'}")
    _title(f"2 of 5  Export {MODEL}: weights to ONNX, typed FP16 and explicit INT8")
    # A bound, so that the demo takes minutes; and whatever comes of it is told, not refused.
    search = SearchOptions(_SEARCH_S)
    request = Request(out / "bundle", samples=pictures.scenes, keep=True, search=search)
    with console.stages() as report:
        bundle = export_recipe(recipe(MODEL), "package", request, report)
    _tell_fidelity(bundle)
    _title("3 of 5  Build engines, and time INT8 against fp32")
    _build(bundle)
    show = _Show(out, pictures, bundle, choose_precision(bundle, "image", "cpu"))
    console.say(f"What follows runs {show.precision}")
    _title("4 of 5  Run: search and anomaly")
    gallery = [*_search(show), *_anomaly(show)]
    _title("5 of 5  Measure")
    _bench(show, gallery, time_limit_s)


def _title(text: str) -> None:
    console.say(f"\n{text}")


def _tell_fidelity(bundle: Bundle) -> None:
    for name, variant in bundle.part()[1].variants.items():
        if variant.fidelity is not None:
            figures = ", ".join(f"{k} {v:.4f}" for k, v in variant.fidelity.figures.items())
            verdict = "within" if variant.fidelity.met else "NOT within"
            console.say(
                f"{name} against fp32 on {variant.fidelity.samples.count} pictures, {verdict} its "
                f"budget: {figures}"
            )
    console.say(f"Weights: {bundle.manifest.weights.note}.")


def _build(bundle: Bundle) -> None:
    from jetlift.engines.build import build
    from jetlift.engines.gate import sentence

    targets = ["cpu"]
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        targets.append(RTX_TARGET)
    else:
        console.say(
            f"TensorRT-RTX is not installed, so no engine is built for {RTX_TARGET}. To have "
            "NVIDIA's compiler judge the graphs, without a GPU: pip install 'jetlift[rtx]'"
        )
    for target in targets:
        with console.stages() as report:
            results = build(bundle, target, progress=report)
        for result in results:
            size_mb = result.passport.engine_size_bytes / 1e6
            console.say(f"{target} {result.precision}: {size_mb:.1f} MB in {result.seconds:.1f} s")
            if told := sentence(bundle, result):
                console.say(told)


def _search(show: _Show) -> list[tuple[Path, str]]:
    """Index the scenes and look for one of each; the first contact sheet goes into the report."""
    from jetlift.runtime.run import run_task
    from jetlift.runtime.session import open_session
    from jetlift.runtime.sources import open_source
    from jetlift.runtime.tasks import open_task
    from jetlift.runtime.tasks.search import build_index

    scenes = sorted(show.pictures.scenes.iterdir())
    queries = [str(path) for path in scenes[:: demo_pictures.CROPS_PER_PHOTOGRAPH]]
    out = show.out / "search"
    with open_session(show.bundle, "image", show.precision) as session:
        with open_source([str(show.pictures.scenes)]) as source:
            index = build_index(
                show.bundle, session, source, precision=show.precision, target="cpu"
            )
        index.save(show.out / "scenes.index")
        task = open_task("search", show.bundle, session, precision=show.precision, index=index)
        with open_source(queries) as source:
            done = run_task(task, source, out=out).done
    console.say(f"Search: {done} queries among {len(scenes)} crops: {out}")
    sheets = sorted((out / "pictures").iterdir())
    return [(sheets[0], "Search: the query and its nearest neighbours, by cosine")]


def _anomaly(show: _Show) -> list[tuple[Path, str]]:
    """Fit on good shots of one texture, then judge others; two heat maps go into the report."""
    from jetlift.runtime.run import run_task
    from jetlift.runtime.session import open_session
    from jetlift.runtime.sources import open_source
    from jetlift.runtime.tasks import open_task
    from jetlift.runtime.tasks.anomaly_fit import fit

    out = show.out / "anomaly"
    verdicts: list[tuple[str, bool]] = []

    def note(fields: dict[str, object]) -> None:
        verdicts.append((Path(str(fields["source"])).stem, bool(fields["anomalous"])))

    with open_session(show.bundle, "image", show.precision) as session:
        with open_source([str(show.pictures.good)]) as source:
            model = fit(show.bundle, session, source, precision=show.precision, target="cpu")
        model.save(show.out / "texture.fit")
        task = open_task("anomaly", show.bundle, session, precision=show.precision, fit=model)
        with open_source([str(show.pictures.test)]) as source:
            run_task(task, source, out=out, show=note)
    right = sum(anomalous == name.startswith("defect") for name, anomalous in verdicts)
    console.say(
        f"Anomaly: {right} of {len(verdicts)} shots judged rightly (defects are drawn): {out}"
    )
    pictures = {path.name.split(".")[0]: path for path in sorted((out / "pictures").iterdir())}
    caption = "Anomaly (PaDiM on patch tokens)"
    return [
        (pictures["defect-00"], f"{caption}: a shot with a drawn defect"),
        (pictures["good-00"], f"{caption}: a good shot that the model never saw"),
    ]


def _bench(show: _Show, gallery: list[tuple[Path, str]], time_limit_s: float) -> None:
    from jetlift.benchmarks.bench import bench

    folder = show.out / REPORT_FOLDER
    with console.stages() as report:
        bench(
            show.bundle,
            samples=show.pictures.scenes,
            out=folder,
            time_limit_s=time_limit_s,
            gallery=gallery,
            command=f"jetlift demo -o {show.out.name}",
            progress=report,
        )
    console.say("")
    sys.stdout.write(f"Report: {folder / 'report.html'}\n")
