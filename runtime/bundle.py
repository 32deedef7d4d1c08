"""The bundle on disk: written once, verified before use, never changed.

Rules:
    B1  bundle.json has the published form and a schema version this code knows.
    B2  No path in it leaves the folder, by name or through a link.
    B3  Every file it lists is there with the stated size and SHA-256.
    B4  Every file its parts name is listed.
    B5  Outside engines/ there is no file that it does not list (hidden files are never used).
Nothing in a bundle is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jetlift.runtime import jsonform
from jetlift.runtime.errors import BundleError, InputError, UnknownNameError
from jetlift.runtime.manifest import (
    SCHEMA_VERSION,
    AudioPreprocess,
    FileEntry,
    Manifest,
    Part,
    TextPreprocess,
    Variant,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")
MANIFEST_NAME = "bundle.json"
ENGINES_FOLDER = "engines"
_MAX_MANIFEST_BYTES = 16 * 2**20
_REMAKE = "Copy the bundle again, or make it again with: jetlift export"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: Where it lies, resolved.
        manifest: What bundle.json says.
        sha256: Hash of bundle.json, which names every other hash and so stands for the whole.
    """

    folder: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def open(cls, folder: Path | str) -> Bundle:
        """Read and verify a bundle (rules B1 to B5).

        Raises:
            InputError: There is no bundle at `folder`.
            BundleError: The bundle is incomplete, altered, or of another schema.
        """
        root = Path(folder).resolve()
        path = root / MANIFEST_NAME
        if not path.is_file():
            raise InputError(
                f"{folder} is not a bundle: it has no {MANIFEST_NAME}",
                expected="A folder made by 'jetlift export'",
                do="Name the bundle's folder, or make one with: jetlift export MODEL -o DIR",
            )
        text = _read_manifest(path)
        manifest = parse_manifest(text)  # B1
        bundle = cls(root, manifest, hashlib.sha256(text).hexdigest())
        bundle._verify()
        return bundle

    def part(self, name: str | None = None) -> tuple[str, Part]:
        """The named part, or the only one.

        Raises:
            UnknownNameError: No such part, or several and none named.
        """
        parts = self.manifest.parts
        if name is None and len(parts) == 1:
            return next(iter(parts.items()))
        if name is None or name not in parts:
            raise UnknownNameError(
                f"Part {name!r} is not in bundle {self.manifest.model}",
                expected=f"One of {', '.join(parts)}",
            )
        return name, parts[name]

    def variant(self, part: str, precision: str) -> Variant:
        """The named variant of a part.

        Raises:
            UnknownNameError: The bundle has no such variant.
        """
        variants = self.part(part)[1].variants
        if precision not in variants:
            raise UnknownNameError(
                f"Part {part} of {self.manifest.model} has no {precision} variant",
                expected=f"One of {', '.join(variants)}",
                do="Choose one of these, or export again with: --precision",
            )
        return variants[precision]

    def variants(self, precisions: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """Every part with each of its variants, in the manifest's order of parts.

        Args:
            precisions: Variants of every part that has them, in this order; None for all there are.

        Raises:
            UnknownNameError: No part has such a variant.
        """
        parts = self.manifest.parts
        known = list(dict.fromkeys(name for part in parts.values() for name in part.variants))
        for name in precisions or ():
            if name not in known:
                raise UnknownNameError(
                    f"No part of {self.manifest.model} has a {name} variant",
                    expected=f"One of {', '.join(known)}",
                    do="Choose one of these, or export again with: --precision",
                )
        wanted = known if precisions is None else list(dict.fromkeys(precisions))
        return [
            (name, variant)
            for name, part in parts.items()
            for variant in wanted
            if variant in part.variants
        ]

    def path(self, relative: str) -> Path:
        """Where a file of the bundle lies. Its content was verified when the bundle was opened."""
        return self.folder / relative

    def engine_path(self, target: str, part: str, precision: str) -> Path:
        """Where the engine of a variant for a target lies, or would lie."""
        return self.folder / ENGINES_FOLDER / target / f"{part}.{precision}.engine"

    def _verify(self) -> None:
        listed = {entry.path for entry in self.manifest.files}
        missing = [name for name in _named_files(self.manifest) if name not in listed]
        if missing:  # B4
            raise _refused(f"names {missing[0]} but does not list it among its files")
        with ThreadPoolExecutor(max_workers=4) as pool:  # hashlib lets go of the GIL
            for problem in pool.map(self._problem_of, self.manifest.files):
                if problem:
                    raise _refused(problem)
        for path in _files_outside_engines(self.folder):  # B5
            if path not in listed and path != MANIFEST_NAME:
                raise _refused(f"holds {path}, which its manifest does not list")

    def _problem_of(self, entry: FileEntry) -> str | None:
        path = self.folder / entry.path
        if not path.is_file():
            return f"lacks {entry.path}"
        if not path.resolve().is_relative_to(self.folder):  # B2
            return f"has a link that leaves it: {entry.path}"
        size = path.stat().st_size
        if size != entry.size_bytes:  # B3
            return f"has {entry.path} of {size} bytes where {entry.size_bytes} were written"
        if sha256_of(path) != entry.sha256:
            return f"has an altered {entry.path}: its SHA-256 is not the one written at export"
        return None


def parse_manifest(text: bytes) -> Manifest:
    """Read bundle.json (rule B1 and the names of B2).

    Raises:
        BundleError: It is not of the published form.
    """
    with jsonform.refusing(MANIFEST_NAME, BundleError, do=_REMAKE):
        data = jsonform.parse(text)
        _check_version(data)  # first, since another version may well have another form
        return jsonform.read(Manifest, data)


def read_facts(form: type[T], path: Path) -> T:
    """Read what an asset of a bundle says, in the form of a dataclass.

    Raises:
        BundleError: The file is missing or of another form.
    """
    try:
        return jsonform.loads(form, path.read_bytes())
    except (OSError, jsonform.FormError) as error:
        raise BundleError(
            f"{path.name} cannot be read: {error}", do="Export the bundle again"
        ) from error


def _check_version(data: object) -> None:
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(version, int) and version != SCHEMA_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME} has schema version {version}",
            expected=f"This jetlift reads version {SCHEMA_VERSION}",
            do=f"Use the jetlift that made it ({data.get('jetlift')}), or export again",
        )


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Describe every file of a bundle under construction, sorted by path."""
    return tuple(
        FileEntry(
            path=name, sha256=sha256_of(folder / name), size_bytes=(folder / name).stat().st_size
        )
        for name in sorted(_files_outside_engines(folder))
        if name != MANIFEST_NAME
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _read_manifest(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _MAX_MANIFEST_BYTES:
        raise _refused(f"has a {MANIFEST_NAME} of {size} bytes, more than any real one")
    if path.resolve().parent != path.parent:  # B2
        raise _refused(f"has a link that leaves it: {MANIFEST_NAME}")
    return path.read_bytes()


def _named_files(manifest: Manifest) -> Iterator[str]:
    for part in manifest.parts.values():
        for variant in part.variants.values():
            yield variant.file
            yield from variant.data_files
        if isinstance(part.preprocess, TextPreprocess):
            yield part.preprocess.tokenizer
        if isinstance(part.preprocess, AudioPreprocess):
            yield part.preprocess.filters
        if part.detection is not None:
            yield part.detection.labels
        if part.classification is not None:
            yield part.classification.labels


def _files_outside_engines(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(step.startswith(".") for step in relative.parts)  # never named, so never used
        if hidden or relative.parts[0] == ENGINES_FOLDER:
            continue
        if path.is_file() or path.is_symlink():
            yield relative.as_posix()


def _refused(problem: str) -> BundleError:
    return BundleError(
        f"The bundle {problem}",
        expected="Every file exactly as it was exported",
        do=_REMAKE,
    )
