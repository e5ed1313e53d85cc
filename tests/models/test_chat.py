"""A chat template is run where it can take neither the stage nor the machine with it."""

import pytest

from stages.core.errors import InputError
from stages.models import chat

PLAIN = (
    "{{ bos_token }}{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_question_is_spelt_as_transformers_spells_it(tokenizer):
    tokenizer.add_special_tokens({"bos_token": "[CLS]"})
    tokenizer.chat_template = PLAIN
    turns = [{"role": "user", "content": "é\r\n  <b>"}]
    wanted = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert chat.spell(tokenizer, "é\r\n  <b>") == wanted == "[CLS]<user>é\r\n  <b><assistant>"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for %}", "cannot spell a question: .*TemplateSyntaxError"),
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{% for a in range(20000) %}{% for b in range(20000) %}{% endfor %}{% endfor %}", "more than 1 s of CPU"),
    ],
)
def test_one_that_cannot_is_refused_in_a_line(tokenizer, template, said):
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=said) as caught:
        chat.spell(tokenizer, "a", cpu_seconds=1 if "CPU" in said else chat.CPU_SECONDS)
    assert "\n" not in str(caught.value)


def test_several_without_a_default_are_named(tokenizer):
    tokenizer.chat_template = {"tools": PLAIN}
    with pytest.raises(InputError, match="has no chat template for a question: .*tools"):
        chat.spell(tokenizer, "a")
