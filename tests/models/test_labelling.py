"""Every output has one name that every client can show, or the label map is refused."""

import pytest

from stages.core.errors import InputError
from stages.models.labelling import check_labelling

NAMES = {"0": "alarm", "1": "lights", "2": "music"}
IDS = {"alarm": 0, "lights": 1, "music": 2}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"id2label": {"0": "alarm", "1": "lights", "7": "music"}}, r"ids \['7'\]; expected the ids 0 to 2"),
        ({"label2id": IDS}, "has label2id and no id2label"),
        ({"id2label": {"1": "alarm", "2": "lights", "3": "music"}}, r"ids \['3'\]; expected the ids 0 to 2"),
        ({"id2label": {" 0": "alarm", "1": "lights"}}, r"ids \[' 0'\]"),
        ({"id2label": {"00": "alarm", "0": "lights"}}, r"ids \['00'\]"),
        ({"id2label": {"zero": "alarm", "1": "lights"}}, r"ids \['zero'\]"),
        (
            {"id2label": {"0": "play\nmusic", "1": "b"}},
            "calls label 0 .*, which holds the unprintable character U.000A",
        ),
        ({"id2label": {"0": "play\u2028music", "1": "b"}}, r"which holds the unprintable character U.2028"),
        ({"id2label": {"0": "a", "1": 1}}, "calls label 1 1, which is no name"),
        ({"id2label": {"0": "a", "1": None}}, "calls label 1 None, which is no name"),
        ({"id2label": {"0": "a", "1": ""}}, "calls label 1 '', which is no name"),
        ({"id2label": {"0": "a", "1": "b "}}, "which begins or ends with white space"),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": None}, "a model with 1 output: a score"),
        ({"num_labels": 1}, "a model with 1 output: a score"),
        ({"id2label": NAMES, "num_labels": 4}, "num_labels: 4; expected 3"),
        ({"id2label": NAMES, "_num_labels": 2}, "_num_labels: 2; expected 3"),
        ({"num_labels": 3, "_num_labels": 2}, "_num_labels: 2; expected 3"),
        (
            {"id2label": NAMES, "label2id": IDS | {"alarm": 1, "lights": 0}},
            "label2id 'alarm': 1 and id2label 1: 'lights'",
        ),
        ({"id2label": NAMES, "label2id": IDS | {"other": 3}}, "label2id 'other': 3 and id2label without 3"),
        ({"id2label": NAMES, "label2id": IDS | {"music": "0"}}, "label2id 'music': '0' and id2label 0: 'alarm'"),
        ({"id2label": NAMES, "label2id": IDS | {"music": None}}, "label2id 'music': None"),
    ],
)
def test_a_label_map_that_leaves_a_doubt_is_refused(tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        check_labelling(tmp_path / "config.json", config)


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": NAMES, "label2id": IDS, "num_labels": 3},
        {"id2label": NAMES},
        {"id2label": NAMES, "label2id": {}},
        {"id2label": NAMES, "label2id": {name: str(index) for name, index in IDS.items()}},
        {"id2label": NAMES, "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}},
        {"num_labels": 4},
        {},
    ],
)
def test_a_label_map_without_doubt_passes(tmp_path, config):
    check_labelling(tmp_path / "config.json", config)
