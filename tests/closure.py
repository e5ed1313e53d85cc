"""The import closure of a stage inside stages/, read from the source without running it."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRIES = ("stages/targets/registry.py", "stages/tasks/registry.py")
"""Give out the parts of a target and of a task: which ones a file needs, its calls say."""
ANY = ("stages/models/families/*", "stages/data/*")
"""Names of modules any of which may be asked for: the family that a checkpoint is of, the kind of a data set."""


def module_path(name):
    """`stages.schema.plan` → stages/schema/plan.py, None for a bare package."""
    path = Path(*name.split(".")).with_suffix(".py")
    return path if (ROOT / path).is_file() else None


@cache
def nodes(path):
    """Statements and calls of a file, but for those under TYPE_CHECKING: these never run, and change no output."""
    waiting, found = [ast.parse((ROOT / path).read_text(encoding="utf-8"))], []
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            found += [node] if isinstance(node, (ast.Import, ast.ImportFrom, ast.Call)) else []
            waiting += ast.iter_child_nodes(node)
    return found


@cache
def imports(path):
    """Modules under stages/ that a file imports, anywhere in it."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {module_path(name) for name in found if name.startswith("stages.")}
    for name in found:
        package = Path(*name.split("."))
        if name.startswith("stages.") and (ROOT / package / "__init__.py").is_file():
            paths |= package_files(package)
    return {found for found in paths if found}


def modules(path):
    """Modules of stages/ and benchmarks/ that a file names in its imports; a package stands for its `__init__`."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_file(f"{node.module}.{alias.name}") or _file(node.module) for alias in node.names}
    return found - {None}


def _file(name):
    path = Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / file).is_file()), None)


def package_files(package):
    """A package imported as such brings its `__init__`, and a registry of modules brings them all."""
    source = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    return {package / "__init__.py"} if "import" in source else set()


@cache
def names(path):
    """What a file imports by name; `*` stands for what is only known when it runs."""
    calls = {ast.unparse(node.func): node for node in nodes(path) if isinstance(node, ast.Call)}
    found = set()
    if "importlib.import_module" in calls:
        given = calls["importlib.import_module"].args[0]
        parts = given.values if isinstance(given, ast.JoinedStr) else [given]
        found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts))
    for registry in (Path(name) for name in REGISTRIES if Path(name) in imports(path)):
        called = [re.fullmatch(rf"(?:registry|{registry.parent.name})\.(\w+)", name) for name in calls]
        found |= {f"stages.{registry.parent.name}.*.{name[1]}" for name in called if name}
    return found


def named(path, chosen):
    """Modules under stages/ that a file finds by name, where `*` is one of `chosen`."""
    patterns = {name.replace(".", "/") for name in names(path) if name.startswith("stages.")}
    places = [
        ROOT / pattern.replace("*", name)
        for pattern in patterns
        for name in ({path.stem for path in ROOT.glob(f"{pattern}.py")} if pattern in ANY else chosen)
    ]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file.relative_to(ROOT) for file in files if file.is_file()]


def closure(*roots, chosen=()):
    """All files under stages/ that the given files need.

    Args:
        roots: files.
        chosen: what a name that is only known at run time may be: packages of targets and tasks, kinds of compression.
    """
    seen, waiting = set(), [Path(root) for root in roots]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += [*imports(path), *named(path, chosen)]
    return {path.as_posix() for path in seen}
