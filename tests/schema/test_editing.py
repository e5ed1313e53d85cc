"""What an editor is told of conf/ is what composing accepts."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from stages import compose
from stages.core.closure import ROOT
from stages.schema.editing import schemas

FILES = [path for path in sorted((ROOT / "conf").glob("*/**/*.yaml")) if path.parent.name != "sweep"]
SCHEMAS = schemas(ROOT / "conf")
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


def complaints(group, tree):
    return [error.message for error in Draft202012Validator(SCHEMAS[group]).iter_errors(tree)]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_of_conf_is_valid_and_with_a_misspelt_key_is_not(path):
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    group = "recovery" if "recovery" in path.parts else path.parent.name  # a task's own recovery too
    assert complaints(group, tree) == []
    assert complaints(group, tree | {"misspelt": 1}) != []


@pytest.mark.parametrize(
    ("group", "tree"),
    [
        ("variant", {"compression": "none", "target": "onnx-cpu", "precision": "fp32", "required": True}),
        ("variant", {"compression": "none", "target": "toaster", "precision": "fp32"}),
        ("compression", {"defaults": [], "kind": "qat", "weight_bits": "eight"}),
        ("recovery", {"defaults": [], "training": {"epoch": 3.0}}),
        ("gate", {"defaults": ["default"], "interval_below_n": 0}),
    ],
)
def test_a_missing_key_is_missed_where_no_default_has_it_and_a_wrong_one_everywhere(group, tree):
    assert complaints(group, tree) != []


def test_the_command_writes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert compose.main(["--schemas", str(tmp_path)]) == 0
    written = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert written == SCHEMAS
