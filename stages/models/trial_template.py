"""Render a chat template from outside: `confined.run` runs this file in a child under limits (`models.chat`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def render(asked: Path, spelt: Path) -> None:
    """Read template, messages and special tokens from a JSON file, and write what transformers makes of them."""
    from transformers.utils.chat_template_utils import render_jinja_template

    told = json.loads(asked.read_text(encoding="utf-8"))
    found, _ = render_jinja_template(
        [told["messages"]], chat_template=told["template"], add_generation_prompt=True, **told["tokens"]
    )
    spelt.write_bytes(found[0].encode())


if __name__ == "__main__":
    render(Path(sys.argv[1]), Path(sys.argv[2]))
