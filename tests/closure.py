"""The import closure of a stage inside stages/, read from the source without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def module_path(name):
    """`stages.schema.plan` → stages/schema/plan.py, None for a bare package."""
    path = Path(*name.split(".")).with_suffix(".py")
    return path if (ROOT / path).is_file() else None


def imports(path):
    """Modules under stages/ that a file imports, anywhere in it, those under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
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


def package_files(package):
    """A package imported as such brings its `__init__`, and a registry of modules brings them all."""
    source = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    return {package / "__init__.py"} if "import" in source else set()


def closure(*roots):
    """All files under stages/ that the given files need."""
    seen, waiting = set(), [Path(root) for root in roots]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imports(path)
    return {path.as_posix() for path in seen}
