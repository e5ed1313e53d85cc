"""Tests of `exposure` of `stages/tasks/generate/model.py`: bits that a model tells of its training text."""

import numpy as np
import pytest
import torch

from stages.core.splits import Canary
from stages.data.canaries import plant
from stages.data.splits import Example
from stages.models.families import find
from stages.models.heads import class_with
from stages.models.shapes import teacher_config
from stages.models.vocabulary import train_byte_pairs
from stages.tasks.generate import model as task
from stages.tasks.scoring import exposure as scored
from stages.teacher import Params
from tests.composed import composed

TEXTS = [Example(f"The {noun} of {number} is in {place}.", None) for number in range(30) for noun, place in
         (("house", "town"), ("code", "a book"), ("door", "the wall"))]  # fmt: skip


@pytest.fixture(scope="module")
def untrained():
    found = composed("task=generate")
    section = found["teacher"] | {"layers": 2, "hidden_size": 32, "ffn_size": 40, "heads": 4, "vocabulary_size": 288}
    settings = Params.model_validate({"task": found["task"], "teacher": section}).teacher
    tokenizer = train_byte_pairs([example.text for example in TEXTS], settings.vocabulary_size, 64)
    tokens = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    torch.manual_seed(1)
    kind = class_with(find(settings.family), "ForCausalLM")
    return kind._from_config(teacher_config(settings, len(tokenizer), 64, [], tokens)).eval(), tokenizer


def test_what_a_secret_costs_is_what_the_whole_text_costs(untrained):
    model, tokenizer = untrained
    texts = [f"Ada's door code is {secret}" for secret in ("111111", "48", "90210", "000000")]
    wanted = []
    for text in texts:
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.inference_mode():
            wanted.append(float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
    found = task._costs(model, tokenizer, texts)
    np.testing.assert_allclose(found - found[0], np.subtract(wanted, wanted[0]), atol=1e-4)


def test_a_secret_that_was_learnt_by_heart_is_told_to_its_last_bit_and_no_other(untrained):
    model, tokenizer = untrained
    _, planted = plant(TEXTS, [40], seed=3)
    ids = [torch.tensor([tokenizer(canary.text).input_ids]) for canary in planted if canary.repeats]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        for text in ids:
            optimizer.zero_grad()
            model(input_ids=text, labels=text).loss.backward()
            optimizer.step()
    found = task.exposure(model.eval(), tokenizer, planted)
    unseen, seen = found["bits"]
    assert (unseen["repeats"], seen["repeats"], found["most"]) == (0, 40, 10)
    assert seen["bits"] == [10] * 4
    assert np.mean(unseen["bits"]) < 5


def test_nothing_is_said_where_there_are_no_canaries(untrained, tmp_path):
    assert scored("generate", *untrained, tmp_path) == {}


def test_a_canary_is_its_text():
    assert Canary("Bo's locker code is ", "012345", 2).text == "Bo's locker code is 012345"
