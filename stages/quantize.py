"""Lower a converted model to a variant's precision.

Reads: the converted model, the calibration split of the reference.
Writes: the artifact, `signature.json`, `quantization.json` (what was asked and what was done), `manifest.json`.
Why: precisions are many and cheap, conversions few and slow.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli
from stages.core.errors import InputError
from stages.core.params import Section
from stages.core.process import quiet
from stages.schema.variant import Precision, Static, Target
from stages.targets import registry
from stages.targets.base import read_signature
from stages.targets.facts import facts
from stages.tasks import registry as tasks


class Params(Section):
    """The precision to reach, and the target's own knobs."""

    precision: Precision
    target: Target


def stability(settings: Params, converted: Path, calibration: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Calibrate twice, on every other utterance each time, and see how far apart the two artifacts answer.

    Activation ranges that hang on a few utterances are ranges of those utterances.

    Args:
        settings: a static precision, and the target.
        converted: output of `convert`.
        calibration: `input_ids`, `attention_mask` int32 [n, max_length], right-padded.

    Returns:
        `calibration_agreement`, the share of calibration utterances that both answer alike; or the `reason` why
        nothing can be executed here.

    Raises:
        InputError: there are no two utterances to compare.
    """
    if len(calibration["input_ids"]) < 2:
        raise InputError("one calibration utterance has no halves", expected="data.calibration_size of 2 or more")
    runtime = registry.runtime(settings.target.name)
    reason = runtime.available()
    if reason is not None:
        return {"reason": reason}
    exercise, answers = tasks.exercise(read_signature(converted).task), []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        with tempfile.TemporaryDirectory() as scratch:
            registry.quantize(settings.target.name).quantize(
                converted,
                settings.precision,
                {name: rows[half] for name, rows in calibration.items()},
                settings.target,
                Path(scratch),
            )
            given = exercise.answer(runtime.open_runtime(Path(scratch), threads=1), calibration)
            answers.append(np.concatenate([logits.argmax(axis=1) for logits in given]))
    return {"calibration_agreement": float((answers[0] == answers[1]).mean())}


def run(settings: Params, converted: Path, reference: Path, out: Path) -> None:
    """Lower; the toolchain's own messages go to a log beside `out`."""
    artifact.require(converted)
    artifact.require(reference)
    arrays = artifact.read_arrays(reference / "calibration.npz")
    calibration = {name: arrays[name] for name in ("input_ids", "attention_mask")}
    with artifact.writing(
        out,
        stage="quantize",
        # The calibration inputs alone, not the whole reference: nothing else of it can shape the artifact.
        parents={"calibration": reference / "calibration.npz", "converted": converted},
        params=settings,
        tools=facts(settings.target.name).QUANTIZED_WITH,
    ) as temporary:
        with quiet(out.with_suffix(".log")):
            report = registry.quantize(settings.target.name).quantize(
                converted, settings.precision, calibration, settings.target, temporary
            )
            if isinstance(settings.precision, Static):
                # Not text, not ids: what identifies the utterances, and how much hangs on them.
                report["calibration"] = {
                    "sha256": artifact.sha256(reference / "calibration.npz"),
                    "utterances": len(calibration["input_ids"]),
                    **stability(settings, converted, calibration),
                }
        artifact.write_json(temporary / "quantization.json", report)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(
        __doc__,
        argv,
        run,
        Params,
        "converted",
        "reference",
        "out",
        keys={"precision": "precisions.{precision}", "target": "targets.{target}"},
    )


if __name__ == "__main__":
    sys.exit(main())
