"""A checkpoint made for another task is refused by the name of that task."""

import pytest

from stages.core.errors import InputError, Unsupported
from stages.models.families import find
from stages.models.heads import check_head, class_name, class_of, class_with
from stages.tasks.classify.model import HEAD


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
        ("RobertaForSequenceClassification", "a sentence classifier"),
        ("BertForMultiLabelThings", "of no task known here"),
    ],
)
def test_the_task_is_named(tmp_path, named, task):
    with pytest.raises(InputError, match=f"{task}.*names '{named}'.*expected 'BertForSequenceClassification'"):
        check_head(tmp_path / "config.json", {"architectures": [named]}, find("bert"), HEAD)


@pytest.mark.parametrize("named", [None, [], ["BertForSequenceClassification"], ["TFBertForSequenceClassification"]])
def test_a_sentence_classifier_passes_and_so_does_one_that_does_not_say(tmp_path, named):
    check_head(tmp_path / "config.json", {"architectures": named}, find("bert"), HEAD)


def test_a_second_name_is_not_passed_over(tmp_path):
    names = ["BertForSequenceClassification", "BertForTokenClassification"]
    with pytest.raises(InputError, match="a token classifier"):
        check_head(tmp_path / "config.json", {"architectures": names}, find("bert"), HEAD)


def test_a_mobilebert_without_pooler_must_say_what_it_is(tmp_path):
    """Its token classifier has the same tensors as its sentence classifier."""
    given = {"classifier_activation": False}
    with pytest.raises(InputError, match="of words look the same; expected .*MobileBertForSequence"):
        check_head(tmp_path / "config.json", given, find("mobilebert"), HEAD)
    given["architectures"] = ["MobileBertForSequenceClassification"]
    check_head(tmp_path / "config.json", given, find("mobilebert"), HEAD)


def test_another_head_is_asked_for_by_its_name(tmp_path):
    path, named = tmp_path / "config.json", {"architectures": ["BertForTokenClassification"]}
    check_head(path, named, find("bert"), "ForTokenClassification")
    with pytest.raises(InputError, match="a sentence classifier.*expected 'BertForTokenClassification'"):
        check_head(path, {"architectures": ["BertForSequenceClassification"]}, find("bert"), "ForTokenClassification")


def test_every_family_has_the_class_that_transformers_gives_for_the_head(family):
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    assert class_name(find(family), HEAD) == MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[family]
    assert class_with(find(family), HEAD).__name__ == class_name(find(family), HEAD)
    with pytest.raises(Unsupported, match="transformers has no '.*ForRhyming'"):
        class_with(find(family), "ForRhyming")


@pytest.mark.parametrize(
    "named", [None, [], ["RobertaForSequenceClassification"], ["nothing"], ["BertModel", "BertModel"]]
)
def test_a_checkpoint_that_names_no_class_of_its_family_is_refused(named):
    from transformers import BertConfig

    with pytest.raises(InputError, match="architectures: .*expected one class that takes a BertConfig"):
        class_of(BertConfig(architectures=named))
