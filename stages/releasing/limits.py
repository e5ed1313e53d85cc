"""`limits.json`: what an input may be, and which clients were seen to answer rightly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.releasing.forms import of, of_task
from stages.releasing.source import Source

LIMITS = "limits.json"


def write(source: Source, forms: Mapping[str, Any], left_out: Mapping[str, str], bundle: Path) -> None:
    """Write the limits.

    Args:
        source: the variant.
        forms: form → `path` in the bundle and what else a client must be told.
        left_out: form → why the bundle does not have it.
        bundle: directory to write into.
    """
    signature = source.signature
    call = signature.calls[0]
    described = {name: {**form, "clients": of(source).clients(name, source)} for name, form in forms.items()}
    task = of_task(source.task)
    rules = {name: rule.format(max_length=source.max_length) for name, rule in task.WORDS.truncation.items()}
    artifact.write_json(
        bundle / LIMITS,
        {
            **task.limits(source),
            "forms": described,
            "inputs": [tensor.name for tensor in call.inputs],
            **({"labels": len(source.labels)} if source.labels else {}),
            "left_out": dict(left_out),
            "max_length": source.max_length,
            "outputs": [tensor.name for tensor in call.outputs],
            "padded": not signature.dynamic,
            "sequence_lengths": signature.sequence_lengths,
            "special_tokens": {
                role: {"id": index, "token": token} for role, (token, index) in source.tokenization.special.items()
            },
            "truncation": rules,
            "variant": source.key,
        },
    )
