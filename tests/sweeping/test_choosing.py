"""What a device gets and why; what conf/sweep may say; which variants a crossing gives."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stages.core import params
from stages.core.errors import ConfigError
from stages.schema.plan import conf_digest
from stages.sweeping import settings
from stages.sweeping.cross import cross
from stages.sweeping.pareto import Point
from stages.sweeping.recommend import recommend
from stages.sweeping.session import check_goals
from stages.tasks.base import Primary
from stages.tasks.classify import PRIMARY
from tests.composed import composed

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = yaml.safe_load((ROOT / "conf/sweep/default.yaml").read_text(encoding="utf-8"))


def point(label, verdict="pass", target="onnx-cpu", **values):
    return Point(label, label, label, "", target, "none", "fp32", verdict, [], values, {})


def profile(*budgets, prefer="size_bytes", tolerance=0.01):
    tree = {"target": "onnx-cpu", "budgets": list(budgets), "prefer": prefer, "tolerance": tolerance}
    return params.parse(settings.Profile, tree, "")


SIZE = {"metric": "size_bytes", "unit": "byte", "at_most": 100.0}


def test_the_preferred_metric_decides_among_those_as_accurate_as_the_best_within_budget():
    points = [
        point("huge", size_bytes=1000.0, accuracy=0.99),
        point("best", size_bytes=90.0, accuracy=0.90),
        point("smaller", size_bytes=50.0, accuracy=0.895),
        point("smallest", size_bytes=10.0, accuracy=0.80),
        point("elsewhere", target="tflite-nnapi", size_bytes=1.0, accuracy=0.9),
    ]
    found = recommend("phone", profile(SIZE), points, PRIMARY)
    assert found.point.label == "smaller"
    assert found.reason == (
        "lowest size_bytes of 2 variants within 1 points of the best accuracy (90.00 %), "
        "out of 3 that pass and keep every budget, of 4 tried"
    )
    assert found.refused == {"size_bytes > 100 byte": ["huge"]}


def test_without_a_tolerance_the_smallest_that_keeps_the_budgets_is_chosen_whatever_it_scores_on_test():
    enough = {"metric": "validation_kept_of_teacher", "unit": "fraction", "at_least": 0.98}
    points = [
        point("large", size_bytes=90.0, accuracy=0.99, validation_kept_of_teacher=0.99),
        point("small", size_bytes=50.0, accuracy=0.80, validation_kept_of_teacher=0.981),
        point("smallest", size_bytes=10.0, accuracy=0.99, validation_kept_of_teacher=0.97),
    ]
    found = recommend("phone", profile(SIZE, enough, tolerance=None), points, PRIMARY)
    assert found.point.label == "small"
    assert found.reason == "lowest size_bytes of 2 that pass and keep every budget, of 3 tried"
    assert found.refused == {"validation_kept_of_teacher < 0.98 fraction": ["smallest"]}


def test_a_sweep_of_students_draws_the_curve_of_size_and_what_is_kept_for_every_platform():
    found = settings.read(composed("+sweep=students")["sweep"])
    assert found.goals == ["size_bytes", "validation_kept_of_teacher"]
    assert {entry.target for entry in found.profiles.values()} == {"tflite-nnapi", "coreml-metal", "onnx-cpu"}
    assert {entry.tolerance for entry in found.profiles.values()} == {None}
    assert {budget.metric for entry in found.profiles.values() for budget in entry.budgets} == set(found.goals)


def test_a_metric_where_higher_is_better_may_be_preferred():
    points = [point("a", accuracy=0.9, top1_agreement=0.97), point("b", accuracy=0.9, top1_agreement=0.99)]
    assert recommend("phone", profile(prefer="top1_agreement"), points, PRIMARY).point.label == "b"


def test_of_a_task_whose_metric_is_better_lower_the_lowest_is_the_best():
    diverging = Primary("kl_divergence_mean", "KL", "", "")
    points = [
        point("near", size_bytes=90.0, kl_divergence_mean=0.1),
        point("as near", size_bytes=50.0, kl_divergence_mean=0.105),
        point("far", size_bytes=10.0, kl_divergence_mean=0.9),
    ]
    found = recommend("phone", profile(SIZE), points, diverging)
    assert found.point.label == "as near"
    assert "of 2 variants within 0.01 of the best KL (0.10), out of 3" in found.reason


def test_nothing_is_recommended_that_failed_was_screened_out_or_never_measured():
    points = [
        point("failed", "fail", size_bytes=1.0, accuracy=0.9),
        point("unmeasured", "not_measured", size_bytes=1.0),
        point("screened", None, size_bytes=1.0),
        point("sizeless", accuracy=0.9),
    ]
    found = recommend("phone", profile(SIZE), points, PRIMARY)
    assert found.point is None
    assert found.refused == {
        "verdict fail": ["failed"],
        "verdict not measured": ["unmeasured"],
        "screened out": ["screened"],
        "size_bytes was not measured": ["sizeless"],
    }


def test_a_chosen_device_gets_the_variant_that_the_gate_found_to_fit_it_and_the_reason_of_the_others():
    device = yaml.safe_load((ROOT / "conf/device/raspberry-pi.yaml").read_text(encoding="utf-8"))
    found = settings.read(DEFAULT, {"raspberry-pi": device})
    labels = ["raspberry-pi, tflite-nnapi", "raspberry-pi, onnx-cpu"]
    assert list(found.profiles) == [*DEFAULT["profiles"], *labels]
    points = [
        replace(point("fits", size_bytes=9.0, accuracy=0.9), devices={"raspberry-pi": []}),
        replace(point("smaller", "fail", size_bytes=1.0, accuracy=0.9), devices={"raspberry-pi": ["too many parts"]}),
        point("another sweep's", size_bytes=1.0, accuracy=0.9),
    ]
    chosen = recommend(labels[1], found.profiles[labels[1]], points, PRIMARY)
    assert chosen.point.label == "fits"
    assert chosen.refused == {"too many parts": ["smaller"], "was not judged for it": ["another sweep's"]}


def test_the_defaults_are_valid_and_name_every_platform():
    found = settings.read(DEFAULT)
    assert {entry.target for entry in found.profiles.values()} == {"tflite-nnapi", "coreml-metal", "onnx-cpu"}


def test_a_language_model_is_swept_by_its_perplexity_and_not_by_what_it_has_not():
    tree = composed("task=generate", "+sweep=generate", "compression=pruned", "variant=[onnx-cpu-pruned_heads]")
    assert tree["compressions"]["pruned"]["recovery"]["temperature"] == 1.0  # not what is chosen for a classifier's
    found = settings.read(tree["sweep"])
    check_goals(found.goals, "generate")
    assert "perplexity" in found.goals
    assert found.profiles["server"].target == "onnx-cpu"
    with pytest.raises(ConfigError, match="'accuracy', which task classify has and generate has not.*sweep=generate"):
        check_goals(DEFAULT["goals"], "generate")
    with pytest.raises(ConfigError, match="'perplexity', which task generate has.*sweep=default"):
        check_goals(found.goals, "classify")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"goals": ["speed"]}, "no such metric: speed"),
        ({"goals": []}, "at least 1"),
        ({"name": "a/b"}, "pattern"),
        ({"surprise": 1}, "unknown key 'sweep.surprise'"),
        ({"search": DEFAULT["search"] | {"sampler": "random"}}, "tpe"),
    ],
)
def test_wrong_settings_are_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings.read(DEFAULT | change)


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        (SIZE | {"unit": "MB"}, "is measured in 'byte', its threshold in 'MB'"),
        (SIZE | {"metric": "speed"}, "is no metric"),
        (SIZE | {"at_least": 1.0}, "either at_least or at_most"),
        ({"metric": "accuracy", "unit": "fraction", "at_most": 0.9}, "better higher: use at_least"),
    ],
)
def test_a_budget_that_could_never_fire_is_refused(budget, complaint):
    with pytest.raises(ConfigError, match=complaint):
        profile(budget)


def test_a_crossing_gives_every_supported_variant_under_the_names_of_the_plain_build():
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found = cross(tree)
    # All default variants without a compression bear the names that conf/variant gives them, so the cache is shared.
    assert {key for key, variant in tree["variants"].items() if variant["compression"] == "none"} <= set(found)
    assert found["onnx-cpu-pruned_ffn-fp32"]["compression"] == "pruned_ffn"
    assert "onnx-cpu-pal4" not in found
    only = cross(tree | {"precisions": {"pal4": tree["precisions"]["pal4"]}})
    assert {variant["target"] for variant in only.values()} == {"coreml-metal"}


def test_an_edit_of_what_sweeps_search_for_changes_no_build(tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    before = conf_digest(conf)
    (conf / "sweep/default.yaml").write_text("edited", encoding="utf-8")
    (conf / "sweep.yaml").write_text("edited", encoding="utf-8")
    assert conf_digest(conf) == before
    (conf / "gate/default.yaml").write_text("edited", encoding="utf-8")
    assert conf_digest(conf) != before
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        paths = ("conf/sweep.yaml", "conf/sweep", "conf/gate")
        ignored = [path for path in paths if repo.dvcignore.is_ignored(repo.fs, str(ROOT / path))]
        deps = {str(dep.def_path) for stage in repo.index.stages for dep in stage.deps}
    assert ignored == ["conf/sweep.yaml", "conf/sweep"]
    assert not [path for path in deps if path.startswith(("stages/sweep", "hydra_plugins"))]
