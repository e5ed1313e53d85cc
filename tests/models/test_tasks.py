"""A checkpoint made for another task is refused by the name of that task."""

import pytest

from stages.core.errors import InputError
from stages.models.families import find
from stages.models.tasks import check_task


@pytest.mark.parametrize(
    ("named", "task"),
    [
        ("BertForTokenClassification", "a token classifier"),
        ("BertForQuestionAnswering", "a question answering model"),
        ("BertForMultipleChoice", "scores pairs"),
        ("BertForNextSentencePrediction", "judges pairs"),
        ("BertForMaskedLM", "a masked language model"),
        ("BertForPreTraining", "a pretrained language model"),
        ("BertLMHeadModel", "a language model"),
        ("BertModel", "a bare encoder"),
        ("RobertaForSequenceClassification", "not a sentence classifier"),
        ("BertForMultiLabelThings", "not a sentence classifier"),
    ],
)
def test_the_task_is_named(tmp_path, named, task):
    with pytest.raises(InputError, match=f"{task}.*names '{named}'.*expected 'BertForSequenceClassification'"):
        check_task(tmp_path / "config.json", {"architectures": [named]}, find("bert"))


@pytest.mark.parametrize("named", [None, [], ["BertForSequenceClassification"], ["TFBertForSequenceClassification"]])
def test_a_sentence_classifier_passes_and_so_does_one_that_does_not_say(tmp_path, named):
    check_task(tmp_path / "config.json", {"architectures": named}, find("bert"))


def test_a_second_name_is_not_passed_over(tmp_path):
    names = ["BertForSequenceClassification", "BertForTokenClassification"]
    with pytest.raises(InputError, match="a token classifier"):
        check_task(tmp_path / "config.json", {"architectures": names}, find("bert"))


def test_a_mobilebert_without_pooler_must_say_what_it_is(tmp_path):
    """Its token classifier has the same tensors as its sentence classifier."""
    given = {"classifier_activation": False}
    with pytest.raises(InputError, match="a token classifier looks the same; expected .*MobileBertForSequence"):
        check_task(tmp_path / "config.json", given, find("mobilebert"))
    check_task(
        tmp_path / "config.json", given | {"architectures": ["MobileBertForSequenceClassification"]}, find("mobilebert")
    )
