"""`build-engines`: models x precisions x targets, one after another or side by side, one table.

Rules:
    B1  Bundles are exported one after another, since each takes the whole machine.
    B2  Engines for other machines are built side by side, as many at a time as is asked; engines
        for this machine are built alone and last, because they are timed.
    B3  What fails becomes a row with its reason, and the rest goes on.
    B4  A finished bundle is kept where its manifest entry is still what it was made from, else
        refused: nothing finished is thrown away unasked. Finished engines are kept by rule D2 of
        build.py. So an interrupted matrix goes on where it was.
    B5  The table is written after every step, so that an interrupted matrix leaves what it knew.
The published schema of the table is docs/schemas/engines.schema.json.
"""

from __future__ import annotations

import importlib.metadata
import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jetlift.engines.matrix_form import request_of
from jetlift.engines.matrix_table import SCHEMA_VERSION, Row, Table, rows_of
from jetlift.engines.trt.watch import end_all
from jetlift.runtime import atomic, jsonform
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import InputError, JetliftError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jetlift.engines.build import Built
    from jetlift.engines.matrix_form import Matrix, Model

TABLE_NAME = "engines.json"


@dataclass
class Run:
    """One run of a matrix.

    Attributes:
        matrix: What to build, as `read_matrix` gives it.
        out: Where bundles and the table go.
        export: Makes the bundle of a model in a folder that does not exist yet.
        build: Builds engines of a bundle for a target, at precisions (None for all).
        is_here: Whether a target is this machine.
        jobs: Builds at a time for other machines (rule B2).
        tell: Called with what is being done and the share of it all done, 0 to 1.
    """

    matrix: Matrix
    out: Path
    export: Callable[[Model, Path], Bundle]
    build: Callable[[Bundle, str, tuple[str, ...] | None], Built]
    is_here: Callable[[str], bool]
    jobs: int = 1
    tell: Callable[[str, float], None] = lambda _doing, _share: None
    _rows: dict[tuple[str, str], tuple[Row, ...]] = field(default_factory=dict)

    def run(self) -> Table:
        """Build everything (rules B1 to B5).

        Raises:
            StorageError: The table cannot be written.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        cells = [
            (model, bundle, target)
            for model, bundle in self._bundles()
            for target in model.targets or ()
        ]
        elsewhere = [cell for cell in cells if not self.is_here(cell[2])]
        self._side_by_side(elsewhere)
        for model, bundle, target in cells:
            if self.is_here(target):
                self._note(model, target, self._built(model, bundle, target))
        return self._table()

    def _bundles(self) -> Iterator[tuple[Model, Bundle]]:
        """The bundle of every model that has one in the end (rules B1 and B3)."""
        for model in self.matrix.models:
            self._say(f"{model.name}: bundle")
            try:
                yield model, self._bundle(model)
            except JetliftError as error:
                for target in model.targets or ():
                    self._note(model, target, (Row.failed(str(model.name), target, error),))

    def _bundle(self, model: Model) -> Bundle:
        """Make a bundle, or take the finished one (rule B4)."""
        if model.bundle is not None:
            return Bundle.open(Path(model.bundle))
        folder = self.out / str(model.name)
        asked = json.dumps(request_of(model), indent=2, sort_keys=True) + "\n"
        note = folder.with_name(f"{folder.name}.request.json")
        if folder.exists():
            if not note.is_file() or note.read_text(encoding="utf-8") != asked:
                raise InputError(
                    f"{folder} was made from another entry of the manifest",
                    expected="The entry it was made from, or no such folder",
                    do=f"Remove {folder}, give the entry another name, or choose another -o",
                )
            return Bundle.open(folder)
        # The note comes first: a bundle without its note would be refused for ever.
        atomic.write_bytes(note, asked.encode())
        return self.export(model, folder)

    def _side_by_side(self, cells: list[tuple[Model, Bundle, str]]) -> None:
        """Builds for other machines; each runs in a child process of its own (rule B2)."""
        if self.jobs == 1:  # in this thread, which Ctrl-C reaches
            for model, bundle, target in cells:
                self._note(model, target, self._built(model, bundle, target))
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            waiting = {
                pool.submit(self._built, model, bundle, target): (model, target)
                for model, bundle, target in cells
            }
            try:
                for future in as_completed(waiting):
                    model, target = waiting[future]
                    self._note(model, target, future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                end_all()  # builders lead process groups of their own, which Ctrl-C does not reach
                raise

    def _built(self, model: Model, bundle: Bundle, target: str) -> tuple[Row, ...]:
        """The rows of one model and target (rule B3)."""
        self._say(f"{model.name} for {target}")
        wanted = model.precisions
        if wanted is not None:
            known = {variant for _, variant in bundle.variants()}
            wanted = tuple(name for name in wanted if name in known)
        try:
            built = self.build(bundle, target, wanted)
        except JetliftError as error:
            return (Row.failed(str(model.name), target, error),)
        return rows_of(str(model.name), bundle, target, built)

    def _note(self, model: Model, target: str, rows: tuple[Row, ...]) -> None:
        """Keep the rows, and write the table as far as it goes (rule B5)."""
        self._rows[str(model.name), target] = rows
        atomic.write_bytes(self.out / TABLE_NAME, jsonform.dumps(self._table()).encode())

    def _table(self) -> Table:
        """The rows there are, in the manifest's order."""
        order = [(str(m.name), target) for m in self.matrix.models for target in m.targets or ()]
        rows = [row for cell in order for row in self._rows.get(cell, ())]
        return Table(SCHEMA_VERSION, importlib.metadata.version("jetlift"), tuple(rows))

    def _say(self, doing: str) -> None:
        cells = sum(len(model.targets or ()) for model in self.matrix.models)
        self.tell(doing, len(self._rows) / max(1, cells))
