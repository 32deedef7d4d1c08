"""How well synthetic defects are found: PaDiM and PatchCore on scenes of one photograph each.

    python -P benchmarks/anomaly_scenes_bench.py PICTURES BUNDLE… [--precision fp32,int8]
        [--method padim,patchcore] [--scenes 10] [--skip 64] [--from 0.005] -o OUT

Scenes are pictures of a folder, evenly spaced by name after the first `--skip` (those that
calibrated the bundle's INT8). Each gives 40 good shots to fit to, 20 good shots to test with, and
test shots with synthetic defects: 5 kinds, 4 of each, at 4 sizes (benchmarks/anomaly_scenes.py says
how they are drawn). Fit and test shots are apart.

Rules:
    B1  Figures are per scene and size; tables lead with the weakest, and no mean stands alone.
    B2  The target is image AUROC of TARGET for every scene at every size from `--from` on. Smaller
        sizes are shown and not asked for. Exit code 1 where the target is missed.
    B3  OUT/scenes.jsonl has a line per bundle, precision, method and scene. What stands there with
        the same settings is not measured again. No picture is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.benchmarks.anomaly_scenes import KINDS, Scene, Shot
from jetlift.benchmarks.anomaly_table import TARGET, missed, to_markdown, to_svg
from jetlift.export.fidelity.anomaly import auroc
from jetlift.export.fidelity.anomaly_folder import Judged, figures_of, judge_shot
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import InputError, JetliftError, UsageError
from jetlift.runtime.pictures import SUFFIXES, read_picture
from jetlift.runtime.session import open_session
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks import open_task
from jetlift.runtime.tasks.anomaly_fit import fit
from jetlift.runtime.tasks.anomaly_model import Method, method_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from typing_extensions import Self

    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Task

    Array = npt.NDArray[Any]
    Row = dict[str, Any]

SHARES = (0.0025, 0.005, 0.01, 0.04)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How many shots of what.

    Attributes:
        fit: Good shots to fit to.
        good: Good shots to test with.
        per_kind: Shots of each kind of defect at each size.
        shares: Sizes of defects as shares of the shot's area.
    """

    fit: int = 40
    good: int = 20
    per_kind: int = 4
    shares: tuple[float, ...] = SHARES


class Remembering:
    """A session that computes each input once, since both methods see the same shots."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[bytes, dict[str, Array]] = {}
        self.inputs, self.outputs, self.info = session.inputs, session.outputs, session.info

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See Session.run."""
        digest = hashlib.sha256(b"".join(array.tobytes() for array in feeds.values())).digest()
        if digest not in self._known:
            self._known[digest] = self._session.run(feeds)
        return dict(self._known[digest])

    def forget(self) -> None:
        """Drop what was computed, once a scene is done."""
        self._known.clear()

    def close(self) -> None:
        """See Session.close."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def judge_scene(
    scene: Scene, bundle: Bundle, session: Session, precision: str, method: Method, how: Settings
) -> Row:
    """Fit to a scene's good shots and judge its test shots.

    Returns:
        One line of scenes.jsonl.

    Raises:
        InputError: A defect cannot be drawn into this scene.
    """
    good = [scene.good("fit", number) for number in range(how.fit)]
    frames = [Frame(f"fit-{n}", 0, 0.0, shot.image_bgr) for n, shot in enumerate(good)]
    model = fit(bundle, session, frames, precision=precision, target="cpu", method=method)
    task = open_task("anomaly", bundle, session, precision=precision, fit=model)
    clean = [_judged(task, scene.good("test", number)) for number in range(how.good)]
    sizes = []
    for share in how.shares:
        spoilt = [
            _judged(task, scene.defective(kind, share, number))
            for kind in KINDS
            for number in range(how.per_kind)
        ]
        everything = [*clean, *spoilt]
        kinds = {kind: _area(clean, [s for s in spoilt if s.defect == kind]) for kind in KINDS}
        sizes.append({"share": share, **dataclasses.asdict(figures_of(everything)), "kinds": kinds})
    return {
        "model": bundle.manifest.model,
        "precision": precision,
        "method": method,
        "scene": scene.name,
        "settings": dataclasses.asdict(how),
        "bundle_sha256": bundle.sha256,
        "sizes": sizes,
    }


def _area(clean: list[Judged], spoilt: list[Judged]) -> float:
    scores = np.array([item.score for item in (*clean, *spoilt)])
    return auroc(scores, np.arange(len(scores)) >= len(clean))


def _judged(task: Task, shot: Shot) -> Judged:
    return judge_shot(task, shot.kind or "good", shot.image_bgr, shot.kind, shot.mask)


def choose_scenes(folder: Path, count: int, skip: int) -> list[Path]:
    """Pictures of a folder, evenly spaced by name after the first ones.

    Raises:
        InputError: There are not enough.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)[skip:]
    if len(paths) < count:
        raise InputError(
            f"{folder} has {len(paths)} pictures after the first {skip}",
            expected=f"At least {count}, or another --skip",
        )
    step = len(paths) // count
    return paths[step // 2 :: step][:count]


def _rows(
    scenes: Sequence[Path],
    bundle: Bundle,
    precision: str,
    methods: Sequence[Method],
    done: set[str],
) -> Iterator[Row]:
    how = Settings()
    with Remembering(open_session(bundle, "image", precision, target="cpu")) as session:
        for path in scenes:
            scene = Scene(path.stem, read_picture(path))
            for method in methods:
                base = (bundle.sha256, precision, method, scene.name, json.dumps(_plain(how)))
                if str(base) not in done:
                    yield judge_scene(scene, bundle, session, precision, method, how)
            session.forget()


def _plain(how: Settings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(how)))
    return plain


def _key(row: Row) -> str:
    named = (row["bundle_sha256"], row["precision"], row["method"], row["scene"])
    return str((*named, json.dumps(row["settings"])))


def run(args: argparse.Namespace) -> int:
    """Measure what is missing, write the tables, and say whether the target is met."""
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    lines = out / "scenes.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {_key(row) for row in rows}
    scenes = choose_scenes(args.pictures, args.scenes, args.skip)
    methods = [method_of(name) for name in args.method.split(",")]
    for folder in args.bundles:
        bundle = Bundle.open(folder)
        for precision in args.precision.split(","):
            for row in _rows(scenes, bundle, precision, methods, done):
                rows.append(row)
                with lines.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(row) + "\n")
                worst = min(size["image_auroc"] for size in row["sizes"])
                print(f"{row['model']} {precision} {row['method']} {row['scene']}: {worst:.3f}")
    (out / "scenes.md").write_text(to_markdown(rows, args.least), encoding="utf-8")
    (out / "scenes.svg").write_text(to_svg(rows, args.least), encoding="utf-8")
    wrong = missed(rows, args.least)
    for line in wrong:
        print(f"Under {TARGET}: {line}")
    return 1 if wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--method", default="padim,patchcore")
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--skip", type=int, default=64)
    parser.add_argument("--from", dest="least", type=float, default=0.005)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        if args.scenes < 1:
            raise UsageError(f"Got {args.scenes} scenes", expected="At least 1")
        return run(args)
    except JetliftError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
