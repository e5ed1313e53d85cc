"""Parameters are typed, complete and free of strangers."""

import pytest

from stages.core import params
from stages.core.errors import ConfigError
from stages.schema.gate import Benchmark, Threshold
from stages.schema.task import Task

TASK = {"name": "classify", "max_length": 32, "sequence_lengths": [16, 32]}


def test_a_valid_section_is_frozen():
    task = params.parse(Task, TASK, "task")
    with pytest.raises(Exception, match="frozen"):
        task.max_length = 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_length": "32"}, r"'task\.max_length' is '32'; expected: input should be a valid integer"),
        ({"max_length": 32.5}, r"'task\.max_length' is 32\.5; expected: input should be a valid integer"),
        ({"colour": 1}, r"unknown key 'task\.colour'; expected a key of the schema"),
        ({"sequence_lengths": [32, 16]}, "sequence_lengths ascend"),
        ({"sequence_lengths": [16]}, "end at max_length"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(change, message):
    with pytest.raises(ConfigError, match=message):
        params.parse(Task, TASK | change, "task")


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match=r"missing key 'benchmark\.threads'"):
        params.parse(Benchmark, {}, "benchmark")


def test_a_threshold_needs_one_bound_on_a_known_metric():
    base = {"metric": "accuracy", "unit": "fraction", "min_n": 10}
    for change, message in (
        ({}, "exactly one of at_least, at_most"),
        ({"at_least": 0.5, "at_most": 0.9}, "exactly one of at_least, at_most"),
        ({"metric": "acuracy", "at_least": 0.5}, "metric 'acuracy' is not one of: accuracy"),
        ({"unit": "percent", "at_least": 0.5}, "is measured in 'fraction'"),
    ):
        with pytest.raises(ConfigError, match=message):
            params.parse(Threshold, base | change, "gate")


def test_a_path_that_does_not_exist_lists_what_does():
    with pytest.raises(ConfigError, match=r"no 'targets\.web'; expected one of: onnx-cpu"):
        params.select({"targets": {"onnx-cpu": {}}}, "targets.web")


def test_an_unreadable_file_names_the_repair(tmp_path):
    with pytest.raises(ConfigError, match="run `python -m stages.compose`"):
        params.read(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read"):
        params.read(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_writes_them():
    from dvc.utils.serialize import dumps_yaml

    told = {
        "small": 1e-06,
        "large": 1e22,
        "less": -2.5e-07,
        "plain": 0.5,
        "count": 3,
        "name": "1e",
        "hash": "12e4f",
        "digits": "12e45",
    }
    assert params.parse_yaml(dumps_yaml(told)) == told
