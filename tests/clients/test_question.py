"""What a client is asked is what the data set holds."""

import pytest
import toy_bundle

from stages.asking import question
from stages.schema.variant import Variant


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_text_with_a_line_separator_is_one_utterance(tmp_path, monkeypatch, separator):
    texts = (f"hello{separator}world", "lamp songs", f"wake{separator}{separator}me up")
    monkeypatch.setattr(toy_bundle, "UTTERANCES", texts)
    build = toy_bundle.write(tmp_path)
    asked = question.ask(toy_bundle.KEY, Variant(**toy_bundle.VARIANT), build, None)
    assert [item.text for item in asked.utterances] == list(texts)
