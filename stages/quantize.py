"""Lower a converted model to a variant's precision.

Reads: the converted model, the calibration split of the reference.
Writes: the artifact, `signature.json`, `quantization.json` (what was asked and what was done), `manifest.json`.
Why: precisions are many and cheap, conversions few and slow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli, params
from stages.core.params import Section
from stages.core.process import quiet
from stages.schema.variant import Precision, Target
from stages.targets import registry

TOOLS = {
    "coreml-metal": ("coremltools",),
    "onnx-cpu": ("onnx", "onnxruntime"),
    "tflite-nnapi": ("ai-edge-quantizer", "ai-edge-litert"),
}


class Params(Section):
    """The precision to reach, and the target's own knobs."""

    precision: Precision
    target: Target


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
        tools=TOOLS[settings.target.name],
    ) as temporary:
        with quiet(out.with_suffix(".log")):
            report = registry.load(settings.target.name, "quantize").quantize(
                converted, settings.precision, calibration, settings.target, temporary
            )
        artifact.write_json(temporary / "quantization.json", report)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "converted", "reference", "out")
    parser.add_argument("--target", required=True, help="key of `targets` in params.yaml")
    parser.add_argument("--precision", required=True, help="key of `precisions` in params.yaml")
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            params.load(
                Params,
                {"precision": f"precisions.{arguments.precision}", "target": f"targets.{arguments.target}"},
                arguments.params,
            ),
            arguments.converted,
            arguments.reference,
            arguments.out,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
