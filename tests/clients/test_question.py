"""What a client is asked is what the data set holds."""

import pytest

from stages.asking import question
from stages.schema.variant import Variant
from tests.toys import asked_build


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_text_with_a_line_separator_is_one_utterance(tmp_path, monkeypatch, separator):
    texts = (f"hello{separator}world", "lamp songs", f"wake{separator}{separator}me up")
    monkeypatch.setattr(asked_build, "UTTERANCES", texts)
    build = asked_build.write(tmp_path)
    asked = question.ask(asked_build.KEY, Variant(**asked_build.VARIANT), build, None)
    assert [item.text for item in asked.utterances] == list(texts)
