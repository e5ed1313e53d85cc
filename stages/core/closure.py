"""The files of stages/ that a stage needs, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Of the repository; all paths here are relative to it."""
REGISTRIES = (Path("stages/targets/registry.py"), Path("stages/tasks/registry.py"))
"""Give out the parts of a target and of a task: which ones a file needs, its use says."""
ANY = ("stages/models/families/*", "stages/data/*")
"""Names of modules any of which may be asked for: the family that a checkpoint is of, the kind of a data set."""


@cache
def _nodes(path: Path) -> list[ast.AST]:
    """What a file is made of, but for what stands under TYPE_CHECKING: this never runs, and changes no output."""
    waiting: list[ast.AST] = [ast.parse((ROOT / path).read_text(encoding="utf-8"))]
    found = []
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            found.append(node)
            waiting += ast.iter_child_nodes(node)
    return found


@cache
def _file(name: str) -> Path | None:
    """`stages.schema.plan` → stages/schema/plan.py, a package → its `__init__`, None for what is no module here."""
    path = Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()), None)


@cache
def imports(path: Path) -> frozenset[Path]:
    """Return the modules under stages/ that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(file for name in found if name.startswith("stages.") and (file := _file(name)))


def modules(path: Path) -> set[Path]:
    """Return the modules of stages/ and benchmarks/ that a file names in its imports, under TYPE_CHECKING too.

    A package stands for its `__init__`.
    """
    found: set[Path | None] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_file(f"{node.module}.{alias.name}") or _file(node.module) for alias in node.names}
    return {file for file in found if file}


@cache
def names(path: Path) -> frozenset[str]:
    """Return what a file imports by name; `*` stands for what is only known when it runs."""
    found = set()
    for node in _nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else node.args[:1]
            found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts))
    said = {
        (node.value.id, node.attr)
        for node in _nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    for room in (registry.parent.name for registry in REGISTRIES if registry in imports(path)):
        found |= {f"stages.{room}.*.{part}" for name, part in said if name in ("registry", room)}
    return frozenset(found)


def _named(path: Path, chosen: Iterable[str]) -> list[Path]:
    """Return the modules under stages/ that a file finds by name, where `*` is one of `chosen`."""
    patterns = {name.replace(".", "/") for name in names(path) if name.startswith("stages.")}
    places = [
        ROOT / pattern.replace("*", name)
        for pattern in patterns
        for name in ({path.stem for path in ROOT.glob(f"{pattern}.py")} if pattern in ANY else chosen)
    ]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file.relative_to(ROOT) for file in files if file.is_file()]


def closure(root: Path, chosen: Iterable[str] = ()) -> set[Path]:
    """Return all modules under stages/ that a module needs, itself among them.

    Args:
        root: the module's file.
        chosen: what a name that is only known at run time may be: packages of targets and tasks, kinds of compression.
    """
    seen: set[Path] = set()
    waiting, chosen = [root], tuple(chosen)
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            # A package runs before what lies in it.
            packages = [package / "__init__.py" for package in path.parents[:-1]]
            waiting += [*packages, *imports(path), *_named(path, chosen)]
    return seen


def beside(files: Iterable[Path]) -> set[Path]:
    """Return what is no module and lies in a package that some of these files lie in: templates, samples, tables."""
    packages = {file.parent for file in files}
    return {file for package in packages for file in _other_files(package)}


@cache
def _other_files(package: Path) -> list[Path]:
    """Return the files of a package that are no modules, in folders below it too that are no packages."""
    found: list[Path] = []
    for item in sorted((ROOT / package).iterdir()):
        if item.is_dir() and item.name != "__pycache__" and not (item / "__init__.py").is_file():
            found += _other_files(item.relative_to(ROOT))
        elif item.is_file() and item.suffix != ".py":
            found.append(item.relative_to(ROOT))
    return found
