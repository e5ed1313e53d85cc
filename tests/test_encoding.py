"""No file of text is read or written in whatever encoding the host happens to prefer."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for room in ("stages", "hydra_plugins", "benchmarks", "tests") for path in (ROOT / room).rglob("*.py")
)


def test_every_text_file_is_opened_as_utf_8():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _leaves_the_encoding_to_the_host(node)
    ]

    assert len(FILES) > 300
    assert found == []


def test_a_call_without_encoding_is_seen():
    bare = ["path.read_text()", "path.open('w')", "path.write_text(x)", "path.open()"]
    source = "\n".join([*bare, "path.open('rb')", "path.read_text(encoding='utf-8')"])

    found = [call.lineno for call in ast.walk(ast.parse(source)) if _leaves_the_encoding_to_the_host(call)]

    assert sorted(found) == [1, 2, 3, 4]


def _leaves_the_encoding_to_the_host(node):
    if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
        return False
    match node.func:
        case ast.Attribute(attr="read_text"):
            return not node.args
        case ast.Attribute(attr="write_text"):
            return len(node.args) == 1
        case ast.Attribute(attr="open"):
            return not node.args or _is_a_mode_of_text(node.args[0])
        case ast.Name(id="open"):
            return len(node.args) == 1 or _is_a_mode_of_text(node.args[1])
    return False


def _is_a_mode_of_text(node):
    mode = node.value if isinstance(node, ast.Constant) else None
    return isinstance(mode, str) and 0 < len(mode) <= 3 and set(mode) <= set("rwax+t")
