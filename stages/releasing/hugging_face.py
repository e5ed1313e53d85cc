"""`hf/`: a directory that Transformers.js, Optimum and Hugging Face tokenizers take as it is."""

from __future__ import annotations

from pathlib import Path

from stages.core.errors import Unsupported
from stages.releasing import onnx_forms
from stages.releasing.source import Source
from stages.schema.variant import Dynamic, Float, Gptq, Mixed, Precision, SourceBlocks, Static, WeightOnly
from stages.targets.onnx_cpu import graph

FOLDER = "hf"


def suffix(precision: Precision) -> tuple[str, str]:
    """Return the name that Transformers.js gives a precision, as `dtype` and in the file's name.

    q8 is what it loads in a browser unless told otherwise: it goes to the int8 that needs no calibration; static int8
    has a name of its own, so that both fit into one directory.

    Raises:
        Unsupported: there is no name for it.
    """
    match precision:
        case Float(bits=32):
            return "fp32", ""
        case Float(bits=16):
            return "fp16", "_fp16"
        case Dynamic(weight_bits=8):
            return "q8", "_quantized"
        case Static(weight_bits=8):
            return "int8", "_int8"
        case WeightOnly(weight_bits=8):
            return "uint8", "_uint8"
        case WeightOnly(weight_bits=4) | Dynamic(weight_bits=4) | Gptq() | SourceBlocks():
            return "q4", "_q4"
        case Mixed():
            return suffix(precision.low)
    raise Unsupported(f"Transformers.js has no name for {precision}", next_step="leave 'hf' out of release.forms")


def write(source: Source, bundle: Path) -> dict[str, str]:
    """Write `hf/` and run its graph beside the artifact.

    Everything but the graph follows from the checkpoint alone: directories of one compression's precisions may be
    copied into one.

    Returns:
        What `limits.json` says of it.

    Raises:
        ArtifactError: the graph answers otherwise than the artifact.
    """
    dtype, ending = suffix(source.precision)
    form = f"{FOLDER}/onnx/model{ending}.onnx"
    (bundle / FOLDER / "onnx").mkdir(parents=True)
    source.configure(bundle / FOLDER)
    graph.write(onnx_forms.int64_copy(source.artifact), bundle / form)
    onnx_forms.check_int64(source, bundle / form, form)
    return {"dtype": dtype, "path": form}
