"""Find the ranges of a program's activations, and check that its linear layers compute with integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from stages.core.errors import ConversionError
from stages.coreml import open_program
from stages.coreml.calibration import calibrate
from stages.schema.variant import CoremlMetal, Float
from stages.targets.base import read_signature
from stages.targets.coreml_metal import LINEAR_LAYERS
from stages.targets.coreml_metal.lowering import Ranges, lower
from stages.targets.coreml_metal.package import PACKAGE, operations, read_program
from stages.tasks.base import FORWARD, utterances


def find_ranges(converted: Path, calibration: Mapping[str, NDArray[Any]], target: CoremlMetal) -> Ranges:
    """Run the 16-bit program over the calibration split, each utterance padded as an app would pad it.

    The reference executor runs it on every host, so that every host writes the same artifact.

    Args:
        converted: output of `convert`.
        calibration: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded.
        target: the deployment target the program was converted for.

    Raises:
        ArtifactError: an activation overflows 16 bits.
    """
    signature = read_signature(converted)
    with TemporaryDirectory() as folder:
        package = Path(folder) / PACKAGE
        # Its tensors have the names that the passes of `static` find, which come after the same compilation.
        lower(converted, Float(kind="float", bits=16), target, package, {})
        padded = (signature.padded(FORWARD, inputs) for inputs in utterances(calibration))
        return calibrate(open_program(package), padded)


def check(converted: Path, package: Path) -> dict[str, Any]:
    """Refuse a program in which a linear layer reads floats.

    Args:
        converted: output of `convert`.
        package: the `.mlpackage` written from it.

    Returns:
        Linear layers asked for and lowered, pairs of `quantize` and `dequantize`, and the products of two activations,
        which coremltools 9 leaves in 16 bits.

    Raises:
        ConversionError: names the layers, or there are none.
    """
    asked = sum(operation.type in LINEAR_LAYERS for operation in operations(read_program(converted / PACKAGE)))
    found = operations(read_program(package))
    makers = {output.name: operation.type for operation in found for output in operation.outputs}
    linear = [operation for operation in found if operation.type in LINEAR_LAYERS]
    left = [layer for layer in linear if makers.get(layer.inputs["x"].arguments[0].name) != "dequantize"]
    lowered = len(linear) - len(left)
    if left or lowered != asked or not asked:
        names = ", ".join(f"'{layer.outputs[0].name}'" for layer in left[:3]) or "none"
        raise ConversionError(
            f"{lowered} linear layers read integers; left in float: {names}", expected=f"{asked or 'some'} lowered"
        )
    kinds = Counter(operation.type for operation in found)
    return {
        "left_float": {"matmul": kinds["matmul"]},
        "linear": {"asked": asked, "quantized": lowered},
        "pairs": kinds["quantize"],
    }
