"""Compress a checkpoint, and measure what the compressed checkpoint costs and how it hides padding.

Reads: the data's train, validation and calibration splits; the student, or the compression that this one comes after.
Writes: a Hugging Face directory, `profile.json`, `history.csv` where trained, `manifest.json`.
Why: a compression is done once in torch, for all targets; everything after it must agree with its result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, splits
from stages.core.params import Section
from stages.schema.compression import Compression
from stages.schema.task import Task
from stages.tasks import registry as tasks


class Params(Section):
    """Shapes to serve, and what to do to the checkpoint."""

    task: Task
    compression: Compression


def profile(model: Any, tokenizer: Any, calibration: Sequence[str], task: Task) -> dict[str, Any]:
    """Measure a checkpoint.

    Args:
        model: the checkpoint in eval mode.
        tokenizer: its tokenizer.
        calibration: utterances to calibrate the mask constant on.
        task: the lengths it is served at.

    Returns:
        `parameters`; `macs` of one utterance at `max_length` and `macs_by_length`, matrix products only; of an encoder
        `mask_constant`, with `mask_leak` and `mask_disagreement` in units of the logits' spread.
    """
    from stages.models import mask
    from stages.models import profile as costs
    from stages.models.encode import encode
    from stages.models.families import family_of

    measured: dict[str, Any] = {
        "macs": costs.macs(model, task.max_length),
        "macs_by_length": costs.macs_by_length(model, task.sequence_lengths),
        "parameters": costs.parameters(model),
    }
    if family_of(model.config).decoder is not None:  # it reads what came before alone, so no padding
        return measured
    encoded, items = encode(tokenizer, calibration, task.max_length), tasks.model(task.name).items
    found = mask.calibrate(model, encoded, items, tokenizer.pad_token_id)
    return measured | {
        "mask_constant": found.constant,
        "mask_disagreement": found.disagreement,
        "mask_leak": found.leak,
    }


def parent_role(compression: Compression) -> str:
    """Name what a compression starts from, as its manifest and the bundle's lineage do."""
    return f"compressed-{compression.after}" if compression.after else "student"


def run(settings: Params, data: Path, source: Path, out: Path) -> None:
    """Read data and a checkpoint, compress, write the new checkpoint and its profile."""
    from stages.compression import transform
    from stages.models import checkpoint, mask
    from stages.models.families import check_offered, family_of

    artifact.require(data)
    artifact.require(source)
    model, tokenizer = checkpoint.load_model(source), checkpoint.load_tokenizer(source)
    check_offered(family_of(model.config), settings.compression.needs, settings.compression.kind)
    neutralised = mask.neutralise_padding(model, tokenizer.pad_token_id)
    compression = transform(settings.compression.kind)
    examples = _examples(data, tokenizer, compression.SPLITS, settings.task)
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


def _examples(data: Path, tokenizer: Any, names: Sequence[str], task: Task) -> dict[str, Any]:
    """Encode the splits that a compression learns from; what learns nothing need not import what trains."""
    if not names:
        return {}
    from stages.models.recovery import Utterances
    from stages.tasks.examples import examples, to_learn

    labels, found = splits.read_labels(data), {}
    for name in names:
        encode = partial(
            to_learn if name == "train" else examples,
            task.name,
            split=splits.read_split(data, name),
            classes=labels,
            max_length=task.max_length,
        )
        found[name] = Utterances(**vars(encode(tokenizer)), encode=encode)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(
        __doc__, argv, run, Params, "data", "checkpoint", "out", keys={"compression": "compressions.{name}"}
    )


if __name__ == "__main__":
    sys.exit(main())
