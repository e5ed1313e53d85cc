"""Compress a checkpoint, and measure what the compressed checkpoint costs and how it hides padding.

Reads: the data's train, validation and calibration splits; the student, or the compression that this one comes after.
Writes: a Hugging Face directory, `profile.json`, `history.csv` where trained, `manifest.json`.
Why: a compression is done once in torch, for all targets; everything after it must agree with its result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.schema.compression import Compression
from stages.schema.task import Task


class Params(Section):
    """Shapes to serve, and what to do to the checkpoint."""

    task: Task
    compression: Compression


def profile(model: Any, tokenizer: Any, calibration: Sequence[str], task: Task) -> dict[str, Any]:
    """Measure a checkpoint.

    Args:
        model: classifier in eval mode.
        tokenizer: its tokenizer.
        calibration: utterances to calibrate the mask constant on.
        task: the lengths it is served at.

    Returns:
        `parameters`; `macs` of one utterance at `max_length` and `macs_by_length`, matrix products only;
        `mask_constant`, with `mask_leak` and `mask_disagreement` in units of the logits' spread.
    """
    from stages.models import mask
    from stages.models import profile as costs
    from stages.models.encode import encode

    found = mask.calibrate(model, encode(tokenizer, calibration, task.max_length), tokenizer.pad_token_id)
    return {
        "macs": costs.macs(model, task.max_length),
        "macs_by_length": costs.macs_by_length(model, task.sequence_lengths),
        "mask_constant": found.constant,
        "mask_disagreement": found.disagreement,
        "mask_leak": found.leak,
        "parameters": costs.parameters(model),
    }


def parent_role(compression: Compression) -> str:
    """Name what a compression starts from, as its manifest and the bundle's lineage do."""
    return f"compressed-{compression.after}" if compression.after else "student"


def run(settings: Params, data: Path, source: Path, out: Path) -> None:
    """Read data and a checkpoint, compress, write the new checkpoint and its profile."""
    from stages.compression import transform
    from stages.models import checkpoint, mask

    artifact.require(data)
    artifact.require(source)
    model, tokenizer = checkpoint.load_model(source), checkpoint.load_tokenizer(source)
    neutralised = mask.neutralise_padding(model, tokenizer.pad_token_id)
    compression = transform(settings.compression.kind)
    examples = _examples(data, tokenizer, compression.SPLITS, settings.task.max_length)
    with artifact.writing(
        out,
        stage="compress",
        parents={"data": data, parent_role(settings.compression): source},
        params=settings,
        tools=("torch", "transformers"),
    ) as temporary:
        outcome = compression.apply(model, tokenizer, examples, settings.compression)
        tokenizer = outcome.tokenizer or tokenizer
        checkpoint.save(outcome.model, tokenizer, temporary)
        removed, history = outcome.removed, outcome.history
        del model, outcome
        # Measured on what was saved: a checkpoint that does not reload must not leave this stage.
        measured = profile(
            checkpoint.load_model(temporary), tokenizer, splits.read_split(data, "calibration").texts, settings.task
        )
        artifact.write_json(
            temporary / "profile.json", measured | {"removed": removed, "padding_neutralised": neutralised}
        )
        if history:
            from stages.models import training

            training.write_history(temporary / "history.csv", history)


def _examples(data: Path, tokenizer: Any, names: Sequence[str], max_length: int) -> dict[str, Any]:
    """Encode the splits that a compression learns from; what learns nothing need not import what trains."""
    if not names:
        return {}
    from stages.models.encode import encode
    from stages.models.recovery import Utterances

    read = {name: splits.read_split(data, name) for name in names}
    return {
        name: Utterances(encode(tokenizer, split.texts, max_length), split.labels, tuple(split.texts))
        for name, split in read.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(
        __doc__, argv, run, Params, "data", "checkpoint", "out", keys={"compression": "compressions.{name}"}
    )


if __name__ == "__main__":
    sys.exit(main())
