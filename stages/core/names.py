"""What may name a stage's instance, how a target's name becomes a package's, and what files are called everywhere."""

from __future__ import annotations

import re

# DVC reads `.` in a key as a path separator and `@` as the mark of a stage's instance.
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
"""Of a language model's checkpoint, as transformers calls them: how it is to write, and how it spells a chat."""


def module_name(target: str) -> str:
    """Return the package of a target: `onnx-cpu` → `onnx_cpu`."""
    return target.replace("-", "_")
