"""CONTRIBUTING says what to write for a new task, family, target and so on: that is all that knows those there are."""

import ast
import re
from functools import cache

import pytest
import yaml
from test_graph import HIGHER, ROOMS

from stages.core.closure import ROOT, modules

ROW = re.compile(r"^\| an? ([\w ]+) \| (.*?) \| (.*?) ?\|$", re.MULTILINE)
PATH = re.compile(r"`((?:stages|conf)/[^`]+)`")
WORDS = {"csv", "embedded", "files", "fp16", "fp32", "generate", "hub", "llama", "local", "low_rank", "none"} | {
    "samples",
    "text",
}
"""Names that are words for other things as well: a file that knows one by it has to be found by its imports."""
BESIDE = {
    "data set": ["stages/data"],
    "family": ["stages/models/families"],
    # A command about TFLite alone; and what a task's clients take there.
    "target": ["stages/second_opinion.py", "stages/tasks"],
    # An operator of Core ML that is called so; and signatures from when every bundle was a classifier's.
    "task": ["stages/coreml/ops/classification.py", "stages/targets/base.py"],
}
"""What may know one as well: its like, which may build on it, and what is about nothing else."""


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def table():
    """Kind → what to write for one, and where else it has a line; NAME and KIND stand for its own."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {kind: (PATH.findall(own), PATH.findall(part)) for kind, own, part in ROW.findall(text)}


def instances():
    """All that there is of each kind: what it is called in conf/, and the name that a file of `stages/` has for it."""
    found = [("family", path.stem, path.stem) for path in (ROOT / "stages/models/families").glob("[a-z]*.py")]
    found = [one for one in found if one[1] not in ("base", "decoder")]
    found += [("runner", path.stem, path.stem) for path in (ROOT / "stages/running").glob("local.py")]
    found += [("device", path.stem, path.stem) for path in (ROOT / "conf/device").glob("*.yaml")]
    for kind, group in (("task", "task"), ("target", "target"), ("precision", "precision")):
        found += [(kind, path.stem, path.stem.replace("-", "_")) for path in (ROOT / f"conf/{group}").glob("*.yaml")]
    found += [("compression", path.stem, read(path)["kind"]) for path in (ROOT / "conf/compression").glob("*.yaml")]
    for path in (ROOT / "conf/data").glob("*.yaml"):
        module = {"csv": "files", "jsonl": "files"}.get(path.stem, path.stem)
        found.append(("data set", path.stem, module))
    return sorted(found)


def places(kind, column, name, module):
    """Files and folders of a row, for one of its kind."""
    code = [place for place in table()[kind][column] if place.startswith("stages/")]
    conf = [place for place in table()[kind][column] if place.startswith("conf/")]
    return [place.replace("NAME", module) for place in code] + [place.replace("NAME", name) for place in conf]


@cache
def said(path):
    """Words of a file that do something: its imports, and texts of one word; docstrings and messages are none."""
    nodes, found = list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))), set()
    idle = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in idle:
            found.add(node.value)
    return found


def knows(path, name, module, imported):
    """Whether a file names one: by its module, or by a text that is its name."""
    names = {name, module, imported} - WORDS
    return bool(names & said(path)) or any(text.startswith(f"{imported}.") for text in said(path))


def importers():
    found = {}
    for path in (ROOT / "stages").rglob("*.py"):
        for one in modules(path.relative_to(ROOT)):
            found.setdefault(one.as_posix(), set()).add(path.relative_to(ROOT).as_posix())
    return found


IMPORTERS = importers()


def within(path, roots):
    """Whether a file is one of these, lies in one, or is only there for what is: imported by nothing else."""
    if any(path == root or path.startswith(root if root.endswith("/") else f"{root}/") for root in roots):
        return True
    return bool(IMPORTERS.get(path)) and all(within(one, roots) for one in IMPORTERS[path] - {path})


def test_the_table_has_a_row_for_each_kind():
    assert set(table()) == {"task", "family", "target", "precision", "compression", "data set", "device", "runner"}
    assert {kind for kind, _, _ in instances()} == set(table())
    assert len(instances()) > 50


@pytest.mark.parametrize(("kind", "name", "module"), instances())
def test_what_the_table_says_is_there(kind, name, module):
    own, elsewhere = (places(kind, column, name, module) for column in (0, 1))
    assert [place for place in (*own, *elsewhere) if not (ROOT / place).exists()] == []


@pytest.mark.parametrize(("kind", "name", "module"), instances())
def test_no_other_file_knows_it(kind, name, module):
    may = [place for column in (0, 1) for place in places(kind, column, name, module) if place.startswith("stages/")]
    code = [place for place in may[:1] if module in place]
    imported = code[0].removesuffix("/").removesuffix(".py").replace("/", ".") if code else None
    may += BESIDE.get(kind, [])
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").rglob("*.py")
             if knows(path, name, module, imported)]  # fmt: skip
    assert [path for path in sorted(found) if not within(path, may)] == []


def test_a_file_that_knows_one_is_found(tmp_path):
    path = tmp_path / "any.py"
    known = ("onnx-cpu", "onnx_cpu", "stages.targets.onnx_cpu")
    for line in ('if target == "onnx-cpu": pass', "from stages.targets.onnx_cpu import graph",
                 "def f():\n    from stages.targets import onnx_cpu"):  # fmt: skip
        path.write_text(line, encoding="utf-8")
        said.cache_clear()
        assert knows(path, *known)
    for line in ('"""onnx-cpu"""', "# onnx-cpu", 'raise ValueError("only onnx-cpu has it")'):
        path.write_text(line, encoding="utf-8")
        said.cache_clear()
        assert not knows(path, *known)


def test_the_rooms_are_shown_as_they_are():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, re.MULTILINE)
    assert {room: tuple(re.findall(r"\w+", below)) for room, below in rows} == ROOMS
    assert all(f"`{part}` {room}" in text for part, room in HIGHER.items())
