"""The tree of errors in `stages/core/errors.py` is drawn whole."""

import ast
import re

from stages.core import errors
from stages.core.closure import ROOT


def drawn():
    """Name → parent, as the docstring draws it."""
    path, found = ["TinsmithError"], {}
    for line in errors.__doc__.splitlines():
        if branch := re.match(r"([│ ]*)[├└]── (\w+) +\S", line):
            depth = len(branch.group(1)) // 4
            path[depth + 1 :] = [branch.group(2)]
            found[branch.group(2)] = path[depth]
    return found


def written():
    """Name → parent, as the code has it, in every room."""
    classes = {}
    for file in (ROOT / "stages").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.bases:
                classes[node.name] = ast.unparse(node.bases[0])
    found, known = {}, {"TinsmithError"}
    while more := {name for name, base in classes.items() if base in known} - known:
        found |= {name: classes[name] for name in more}
        known |= more
    return found


def test_the_tree_of_errors_is_drawn_whole():
    assert len(written()) > 10
    assert drawn() == written()
