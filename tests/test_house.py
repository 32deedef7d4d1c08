"""How the source is written, where no linter looks: lengths, words, and promises of the README."""

from __future__ import annotations

import ast
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.house import ROOT, STAGES

LONGEST_FILE_LINES = 350
LONG_FUNCTION_LINES = 35
LONGEST_FUNCTION_LINES = 65  # a command with all its options
SHARE_OF_SHORT_FUNCTIONS = 0.95
SHIPPED = ("src", *STAGES)
# What belongs to somebody's machine or workplace, and to no product.
FORBIDDEN_WORDS = {
    "a path of somebody's machine": r"(?<![\w.])/(?:work|root|home/[a-z]+)/",
    "a path of a temporary folder": r"(?<![\w.])/tmp/\w",
    "a host of a package registry": r"files\.pythonhosted\.org|pypi\.org/simple|deb\.debian\.org",
    "a note to do something later": r"\b(?:TODO|FIXME|XXX)\b",
    # A full version of TensorRT 10 has the form of an address: those with its minors are versions.
    "an address on a network": (
        r"(?<![\d.])(?:10\.(?!(?:0|3|7|13|16)\.)\d{1,3}|192\.168|172\.(?:1[6-9]|2\d))"
        r"(?:\.\d{1,3}){2}\b"
    ),
}


def _tracked() -> list[Path]:
    """Files of the repository, without what git ignores; all files where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is not a git checkout, so build products cannot be told from sources")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _shipped() -> list[Path]:
    folders = [ROOT / name for name in SHIPPED]
    return [path for path in _python() if any(path.is_relative_to(folder) for folder in folders)]


def _python() -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".py"]


@dataclass(frozen=True)
class Function:
    where: str
    lines: int


def _functions(paths: list[Path]) -> list[Function]:
    """Every function with its length in lines, docstring and decorators not counted."""
    found = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                last = node.end_lineno or node.lineno
                first = body[0].lineno if body else last
                signature = node.body[0].lineno - node.lineno
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                found.append(Function(where, signature + (last - first + 1 if body else 0)))
    return found


def test_nearly_every_function_is_short() -> None:
    functions = _functions(_shipped())
    long = sorted(
        (item for item in functions if item.lines >= LONG_FUNCTION_LINES),
        key=lambda item: -item.lines,
    )
    report = "\n".join(f"{item.lines:4} lines  {item.where}" for item in long)
    share = 1 - len(long) / len(functions)
    assert share >= SHARE_OF_SHORT_FUNCTIONS, f"{share:.1%} of {len(functions)}:\n{report}"
    assert not long or long[0].lines <= LONGEST_FUNCTION_LINES, report


def test_no_source_file_is_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in _shipped()
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE_LINES} == {}


def test_no_assert_in_shipped_code() -> None:
    # `python -O` drops them, and a user's mistake deserves a sentence.
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _shipped()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_nothing_is_unpickled_or_evaluated() -> None:
    dangerous = {"pickle", "marshal", "shelve", "dill"}
    found = []
    for path in _shipped():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            found += [f"{path.name}:{name}" for name in names if name.split(".")[0] in dangerous]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found += [f"{path.name}:{name}" for name in {node.func.id} & {"eval", "exec"}]
    # The one reader of pickled checkpoints, which knows arrays and refuses everything else.
    assert found == ["safe_pickle.py:pickle"]


def test_broad_excepts_stand_only_at_the_edge_of_the_command_line() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in _shipped()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    }
    # The tokenizers library raises Exception itself, which is translated where it is called.
    assert found <= {"src/jetlift/__main__.py", "runtime/text.py"}


def test_the_whole_tree_of_errors_stands_in_one_file() -> None:
    tree = ROOT / "runtime" / "errors.py"
    ours = {
        node.name for node in ast.parse(tree.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }  # fmt: skip
    elsewhere = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in _shipped()
        if path != tree
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and ours & {base.id for base in node.bases if isinstance(base, ast.Name)}
    ]
    assert elsewhere == []


def test_imports_are_absolute() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _python()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in _shipped()
        if path.stat().st_size
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


@pytest.mark.parametrize("what", FORBIDDEN_WORDS)
def test_the_repository_speaks_of_the_product_alone(what: str) -> None:
    pattern = re.compile(FORBIDDEN_WORDS[what])
    found = []
    for path in _tracked():
        if path == Path(__file__).resolve() or path.name in ("LICENSE", "uv.lock"):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_large_file_enters_the_repository() -> None:
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in _tracked()
        if path.stat().st_size > 2**20
    }
    assert large == {}


# The README's promises.


def _documents() -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".md"]


def test_every_relative_link_in_a_document_leads_somewhere() -> None:
    dead = []
    for path in _documents():
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
        dead += [
            f"{path.relative_to(ROOT)}: {target}"
            for target in targets
            if "://" not in target and not (path.parent / target).exists()
        ]
    assert dead == []


def test_every_command_that_documents_show_exists() -> None:
    import typer.main

    from jetlift.cli import app

    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    shown = {}
    for path in _documents():
        for name in re.findall(r"\bjetlift ([a-z]+)\b(?= |`|$)", _code_of(path), re.MULTILINE):
            shown.setdefault(name, path.relative_to(ROOT))
    assert shown, "the documents show no command at all"
    assert {name: str(path) for name, path in shown.items() if name not in known} == {}


def _code_of(path: Path) -> str:
    """What stands in code blocks and between backticks."""
    pattern = r"```\w*\n(.*?)```|`([^`\n]+)`"
    found = re.findall(pattern, path.read_text(encoding="utf-8"), re.DOTALL)
    return "\n".join(block or inline for block, inline in found)


def test_the_readme_names_every_command() -> None:
    import typer.main

    from jetlift.cli import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert [name for name in commands if f"jetlift {name}" not in text] == []


def test_pinned_versions_satisfy_what_the_project_asks_for() -> None:
    from jetlift.doctor.installed import Installed

    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)==([^; ]+)", line):
            pins.setdefault(match[1], []).append(match[2])
    not_tried = ("tensorrt", "lean", "cuda")  # nothing is pinned that was not installed
    requirements = [item for item in Installed.here().requirements() if item.extra not in not_tried]
    for item in requirements:
        name = item.distribution.lower().replace("_", "-")
        assert name in pins, f"{name} is not pinned in constraints.txt"
        assert all(item.accepts(version) for version in pins[name]), name
