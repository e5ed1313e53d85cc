"""Clients of a language model are held to the artifact's text token by token; a tie is forgiven, and nothing else."""

import pytest

from stages.schema.clients import Bound
from stages.tasks.generate import clients
from stages.tasks.generate.clients import Written

EXACT = Bound(top1_agreement=1.0, probability_difference=0.001)
OWN = Written([5, 6, 7], [0.9, 0.001, 0.8], "")
WORDS = {5: "five", 6: " six", 7: " seven", 8: " eight"}
WANTED = Written([5, 6, 7], [], "five six seven", [2], lambda ids: "".join(WORDS[one] for one in ids))


def judged(following, text="five six seven"):
    return judged_as({"following": following, "text": text})


def judged_as(answer):
    found = clients.compare([answer], [OWN], [WANTED])
    return found, clients.objections(found, EXACT)


@pytest.mark.parametrize("following", [[5, 6, 7], [5, 6, 7, 2]])
def test_the_same_tokens_pass_whether_a_client_shows_what_ended_them_or_not(following):
    found, said = judged(following)
    assert (found["top1_agreement"], found["top1_agreement_with_reference"], said) == (1.0, 1.0, [])
    assert clients.said(found) == "to the last token"


def test_a_text_that_parts_at_a_tie_passes_and_is_counted():
    found, said = judged([5, 9, 9])
    assert (found["top1_agreement"], found["max_probability_difference"], said) == (0.0, 0.0005, [])
    assert clients.said(found) == "parting where a token leads by 1.0e-03 at most"


def test_a_text_that_parts_where_a_token_leads_is_objected_to():
    assert judged([9, 6, 7])[1] == [
        "0 of 1 texts are the artifact's, and one parts where the artifact's token leads by 0.9, 0.002 allowed"
    ]


@pytest.mark.parametrize("following", [[5, 6], [5, 6, 7, 8], [5, 2], []])
def test_a_text_that_ends_elsewhere_is_objected_to(following):
    assert judged(following)[1] == ["0 of 1 texts are the artifact's, and one ends elsewhere"]


def test_the_right_tokens_in_other_letters_are_objected_to():
    assert judged([5, 6, 7], "fivesixseven")[1] == ["1 of 1 texts are spelled otherwise than their tokens"]
    assert judged([5, 6, 7], None)[1] == []
    assert judged([5, 9, 7], "five nine seven")[1] == []


def judged_by_letters(letters):
    return judged_as({"continued": letters, "following": None, "text": None})


def test_letters_alone_are_held_to_those_of_the_artifacts_tokens():
    found, said = judged_by_letters("five six seven")
    assert (found["top1_agreement"], found["top1_agreement_with_reference"], said) == (1.0, 1.0, [])
    found, said = judged_by_letters("five nine")
    assert (found["top1_agreement"], found["max_probability_difference"], said) == (0.0, 0.0005, [])
    assert "leads by 0.9" in judged_by_letters("nine six seven")[1][0]


@pytest.mark.parametrize("letters", ["five six", "five six seven eight", ""])
def test_letters_that_end_elsewhere_are_objected_to(letters):
    assert judged_by_letters(letters)[1] == ["0 of 1 texts are the artifact's, and one ends elsewhere"]
