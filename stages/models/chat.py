"""Spell a chat as a tokenizer's template does, in a process of its own: a template is a program of someone else's.

transformers keeps it from files and attributes, and not from running for ever.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core.errors import InputError, first_line
from stages.models import confined, trial_template

MEMORY_BYTES, CPU_SECONDS = 2 << 30, 30
"""What spelling a question may take; importing the library that does it takes a tenth of either."""


def spell(tokenizer: Any, question: str, *, cpu_seconds: int = CPU_SECONDS) -> str:
    """Return a user's question in the chat template, with the beginning of its answer.

    Args:
        tokenizer: has a template, the default one where it has several.
        question: what is asked.
        cpu_seconds: that it may take.

    Raises:
        InputError: the template fails, or takes more than it may.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # several with names, and none of them is the default
        raise InputError(f"the tokenizer has no chat template for a question: {first_line(error)}") from error
    told = {
        "template": template,
        "messages": [{"content": question, "role": "user"}],
        "tokens": tokenizer.special_tokens_map,
    }
    with TemporaryDirectory(prefix="tinsmith-chat-") as scratch:
        asked, spelt = Path(scratch) / "asked.json", Path(scratch) / "spelt.txt"
        asked.write_text(json.dumps(told), encoding="utf-8")
        script = Path(trial_template.__file__)
        reason = confined.run(script, str(asked), str(spelt), memory_bytes=MEMORY_BYTES, cpu_seconds=cpu_seconds)
        if reason:
            raise InputError(
                f"the chat template cannot spell a question: {reason}", next_step="correct or remove the template"
            )
        return spelt.read_bytes().decode("utf-8")
