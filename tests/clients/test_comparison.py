"""A client's answers are held to the artifact's: labels, probabilities, tokens, and what it does with edge texts."""

import json

import numpy as np
import pytest

from stages.asking import answers
from stages.asking.comparison import judge
from stages.asking.question import Answers, Item, Question
from stages.schema.clients import Bound
from tests.toys import asked_build

BOUND = Bound(top1_agreement=0.75, probability_difference=0.05)
ANSWERS = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]], np.float32)
EDGES = np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
QUESTION = Question(
    task="classify",
    labels=["on", "off"],
    max_length=8,
    utterances=[Item(f"text {index}", [2, index, 3]) for index in range(4)],
    edges=[Item("É", [2, 9, 3], "accent"), Item("", [2, 3], "empty")],
    artifact=Answers(ANSWERS, EDGES),
    padded=Answers(ANSWERS, EDGES),
    reference=ANSWERS[:, ::-1],
)


def answer(probabilities=ANSWERS, edges=EDGES, ids=True, **changed):
    """What a client says that shows its tokens, or does not."""
    asked = [*QUESTION.utterances, *QUESTION.edges]
    items = [
        {"ids": item.ids if ids else None, "ms": 1.0, "probabilities": row.tolist()}
        for item, row in zip(asked, [*probabilities, *edges], strict=True)
    ]
    return {"items": items, "load_ms": 5.0, "version": "client 1.0", **changed}


def verdict(given, reads_text=True):
    return judge(QUESTION, QUESTION.artifact, given, BOUND, reads_text)


def test_a_client_that_repeats_the_artifact_passes_whatever_the_reference_says():
    found = verdict(answer())
    assert (found["verdict"], found["reason"], found["version"]) == ("pass", "", "client 1.0")
    assert (found["top1_agreement"], found["top1_agreement_with_reference"]) == (1.0, 0.0)
    assert (found["tokens_equal"], found["n"], found["latency_p50_ms"]) == (4, 4, 1.0)
    assert found["edges"] == {"different": [], "n": 2, "shown": True}


def test_one_other_answer_of_four_is_within_three_quarters_and_two_are_not():
    one = ANSWERS.copy()
    one[3] = [0.51, 0.49]
    wide = BOUND.model_copy(update={"probability_difference": 0.5})
    assert judge(QUESTION, QUESTION.artifact, answer(one), wide, True)["verdict"] == "pass"
    one[1] = [0.51, 0.49]
    found = judge(QUESTION, QUESTION.artifact, answer(one), wide, True)
    assert (found["verdict"], found["reason"]) == ("fail", "2 of 4 answers are the artifact's, 75 % asked")


def test_a_probability_too_far_fails_though_every_answer_is_the_same():
    found = verdict(answer(ANSWERS + np.array([0.06, -0.06], np.float32) * (ANSWERS[:, :1] > 0.5)))
    assert (found["verdict"], found["top1_agreement"]) == ("fail", 1.0)
    assert found["reason"] == "a probability is 0.06 from the artifact's, 0.05 allowed"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_probability_that_is_no_number_fails(broken):
    given = answer()
    given["items"][0]["probabilities"][0] = broken
    assert verdict(given)["verdict"] == "fail"


def test_other_tokens_fail_on_utterances_and_are_named_on_edge_texts():
    given = answer()
    given["items"][2]["ids"] = [2, 3]
    assert verdict(given)["reason"] == "tokens of 3 of 4 utterances are the reference's"
    given = answer()
    given["items"][4]["ids"] = [2, 1, 3]
    found = verdict(given)
    assert (found["verdict"], found["edges"]["different"]) == ("pass", ["accent"])


def test_of_a_client_that_shows_no_tokens_an_edge_answer_far_from_the_artifacts_tells():
    found = verdict(answer(ids=False))
    assert (found["tokens_equal"], found["edges"]) == (None, {"different": [], "n": 2, "shown": False})
    found = verdict(answer(edges=EDGES + np.array([[0.0], [0.001]], np.float32), ids=False))
    assert (found["verdict"], found["edges"]["different"]) == ("pass", ["empty"])


def test_an_edge_text_without_an_answer_is_a_difference_and_an_utterance_without_one_a_failure():
    given = answer()
    given["items"][5] = {"error": "empty input"}
    assert verdict(given)["edges"]["different"] == ["empty"]
    given["items"][0] = {"error": "out of memory"}
    assert verdict(given)["reason"] == "1 of 4 utterances got no answer: out of memory"


def test_refusing_a_file_is_told_from_crashing_over_it():
    assert verdict({"version": "old 1.0", "refused": "op version 4"})["verdict"] == "refuses"
    assert verdict({"crashed": "exit 139: "}) == {"reason": "exit 139: ", "verdict": "fail", "version": ""}


def test_a_client_that_is_given_ids_says_nothing_about_tokens():
    found = verdict({**answer(), "items": answer()["items"][:4]}, reads_text=False)
    assert (found["verdict"], found["edges"], found["tokens_equal"]) == ("pass", None, None)


def test_a_task_brings_its_clients_and_one_that_brings_none_is_asked_by_nobody(tmp_path, monkeypatch):
    build = asked_build.write(tmp_path)
    bundle = build / "release" / asked_build.KEY
    assert {client.name for client in answers.taking(bundle)} >= {"onnxruntime", "transformers-js"}
    assert set(answers.taking(bundle)) <= set(answers.of_task("classify").CLIENTS) < set(answers.everyone())
    monkeypatch.setattr(answers.tasks, "clients", lambda _: pytest.fail("it has no such part"))
    signature = json.loads((bundle / "signature.json").read_text(encoding="utf-8"))
    (bundle / "signature.json").write_text(json.dumps(signature | {"task": "unasked"}), encoding="utf-8")
    assert answers.taking(bundle) == []
