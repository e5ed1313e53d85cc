"""A data set on which nothing could pass stops the build before the teacher."""

import json

import pytest
import yaml

from stages import sizes
from stages.core import artifact
from stages.core.errors import InputError
from stages.core.params import parse

COUNTS = {"train": 5000, "validation": 500, "test": 1000, "calibration": 128, "probe": 128}


def bound(metric, n, **sides):
    return {"metric": metric, "unit": "count" if metric.endswith("count") else "fraction", "min_n": n, **sides}


AGREEMENT = bound("top1_agreement", 500, at_least=0.998)
GATE = {
    "interval_below_n": 1000,
    "targets": {},
    "baseline": None,
    "reference": [bound("accuracy", 200, at_least=0.5)],
    "every": [bound("non_finite_count", 64, at_most=0)],
    "precisions": {"fp32": [AGREEMENT], "int8": [AGREEMENT | {"at_least": 0.9}]},
}


def settings(**precisions):
    variant = {"target": "onnx-cpu", "compression": "none", "required": True, "release_not_measured": False}
    variants = {key: variant | {"precision": precision} for key, precision in precisions.items()}
    return {"gate": GATE, "variants": variants}


@pytest.fixture
def data(tmp_path):
    def write(**counts):
        with artifact.writing(tmp_path / "data", stage="prepare", parents={}) as out:
            artifact.write_json(out / "summary.json", {"counts": COUNTS | counts})
        return tmp_path / "data"

    return write


def run(tmp_path, data, given):
    sizes.run(parse(sizes.Params, given, "params.yaml"), data, tmp_path / "sizes.json")


def test_a_data_set_that_is_large_enough_is_passed_without_a_word(tmp_path, data, capsys):
    run(tmp_path, data(), settings(a="fp32", b="int8"))
    assert capsys.readouterr().err == ""
    assert json.loads((tmp_path / "sizes.json").read_text(encoding="utf-8")) == COUNTS


def test_a_data_set_on_which_nothing_could_pass_is_refused_with_what_would_fit(tmp_path, data):
    with pytest.raises(InputError, match="no variant can pass.*measured on 80 .*fewer than 500.*move texts there"):
        run(tmp_path, data(test=80), settings(a="int8"))
    assert not (tmp_path / "sizes.json").exists()


def test_a_rate_that_no_answers_could_reach_on_so_few_texts_counts_too(tmp_path, data):
    with pytest.raises(InputError, match="top1_agreement is measured on 600 .* nothing can pass on fewer than 1,000"):
        run(tmp_path, data(test=600), settings(a="fp32"))


def test_a_probe_that_is_too_small_is_named(tmp_path, data):
    given = settings(a="int8")
    form = {"metric": "form_relative_error", "unit": "ratio", "at_most": 1.0, "min_n": 16}
    given["gate"] = GATE | {"every": [form]}
    with pytest.raises(InputError, match="form_relative_error is measured on 10 .*fewer than 16"):
        run(tmp_path, data(probe=10), given)


def test_where_only_some_can_pass_the_others_are_named(tmp_path, data, capsys):
    run(tmp_path, data(test=600), settings(a="fp32", b="int8"))
    assert capsys.readouterr().err.startswith("a cannot pass on this data set: top1_agreement is measured on 600")
    assert (tmp_path / "sizes.json").exists()


def test_from_the_command_line_it_is_one_line_and_exit_1(tmp_path, data, capsys):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings(a="fp32")), encoding="utf-8")
    given = [
        "--params",
        str(tmp_path / "params.yaml"),
        "--data",
        str(data(test=80)),
        "--out",
        str(tmp_path / "out.json"),
    ]
    assert sizes.main(given) == 1
    assert capsys.readouterr().err.count("\n") == 1
