"""Import coremltools 9 quickly, with torch only where torch is needed, and repair what it gets wrong."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from stages.core.errors import ConversionError, first_line
from stages.core.process import hidden
from stages.targets.coreml_metal import POSITION, WIDE
from stages.tasks.base import IDS, SEQUENCE, Call, Tensor

PROBED = ("executorch", "libsvm", "sklearn", "tensorflow", "torchao", "torchaudio", "torchvision", "xgboost")
"""What `import coremltools` imports only to learn whether it is there: 14.5 CPU-seconds and 1.1 GB with all of it,
2.2 s and 300 MB without, 0.5 s and 100 MB without torch and transformers too (research/coreml.md, section 7)."""


def load_with_torch() -> ModuleType:
    """Import coremltools with its torch frontend, repaired; for `convert`.

    Returns:
        The `coremltools` module.
    """
    ct = _load(PROBED)
    if not ct._deps._HAS_TORCH:
        # Loaded by `load` earlier in this process, when it could not see torch; it asks once, at import.
        for name in [name for name in sys.modules if name.partition(".")[0] == "coremltools"]:
            del sys.modules[name]
        ct = _load(PROBED)
    _repair_casts()
    return ct


def load() -> ModuleType:
    """Import coremltools without torch, for everything after `convert`.

    Returns:
        The `coremltools` module; with its torch frontend where this process has imported torch already.
    """
    return _load((*PROBED, "torch", "transformers"))


def _load(unseen: Sequence[str]) -> ModuleType:
    # It logs, as warnings, eight times that Linux has no Core ML and once that torch is newer than 2.7.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with hidden(unseen):
        return importlib.import_module("coremltools")


def _repair_casts() -> None:
    """Replace the frontend's `int` and `bool`, which fail beside numpy 2.4.

    Before: `int(array([16]))` raises "only 0-dimensional arrays can be converted to Python scalars", for any BERT
    traced at one fixed length. After: the one value is taken out first (coremltools pull request 2632, in 9.1).
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch import register_torch_op
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    def cast(context: Any, node: Any, python_type: type, dtype: str) -> None:
        (x,) = _get_inputs(context, node, expected=1)
        if any(size != 1 for size in x.shape):
            raise ConversionError(f"'{node.name}' casts a tensor of shape {list(x.shape)} to one {dtype}")
        if x.can_be_folded_to_const():
            result = Builder.const(val=python_type(np.asarray(x.val).item()), name=node.name)
        else:
            scalar = Builder.squeeze(x=x, name=f"{node.name}_item") if len(x.shape) else x
            result = Builder.cast(x=scalar, dtype=dtype, name=node.name)
        context.add(result, node.name)

    def _int(context: Any, node: Any) -> None:
        cast(context, node, int, "int32")

    def _bool(context: Any, node: Any) -> None:
        cast(context, node, bool, "bool")

    register_torch_op(_int, torch_alias=["int"], override=True)
    register_torch_op(_bool, torch_alias=["bool"], override=True)


def build(
    source: Any, call: Call, lengths: Sequence[int], deployment_target: str, precision: str, pipeline: Any
) -> Any:
    """Run coremltools' compiler over a traced module or a loaded program.

    Args:
        source: a `torch.jit` trace (after `load_with_torch`), or a MIL program.
        call: what it takes and gives, for one text at a time.
        lengths: ascending token counts; one is a fixed shape, several are enumerated.
        deployment_target: member of `coremltools.target`.
        precision: `FLOAT16` or `FLOAT32`: what the program computes in.
        pipeline: the compiler passes.

    Returns:
        An `MLModel`, not loaded.

    Raises:
        ConversionError: coremltools gave up; the first line of its reason.
    """
    ct = sys.modules["coremltools"]
    try:
        return ct.convert(
            source,
            inputs=_inputs(ct, call, lengths),
            # Left open, the output of a 16-bit program becomes fp16 from iOS16 on.
            outputs=[ct.TensorType(name=tensor.name, dtype=np.dtype(tensor.dtype).type) for tensor in call.outputs],
            minimum_deployment_target=ct.target[deployment_target],
            compute_precision=_half(ct) if precision == "FLOAT16" else ct.precision[precision],
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise ConversionError(f"coremltools cannot build the program at {deployment_target}: {reason}") from error


def _half(ct: Any) -> Any:
    """Compute in 16 bits, but what a decoder's writer has marked."""
    return ct.transform.FP16ComputePrecision(op_selector=lambda op: not op.name.endswith(WIDE))


def _inputs(ct: Any, call: Call, lengths: Sequence[int]) -> list[Any]:
    if not call.states:
        return [_input(ct, tensor, lengths) for tensor in call.inputs]
    room = ct.RangeDim(1, lengths[-1], default=1)
    return [
        ct.TensorType(name=IDS, shape=(1, room), dtype=np.int32),
        ct.TensorType(name=POSITION, shape=(1,), dtype=np.int32),
    ]


def _input(ct: Any, tensor: Tensor, lengths: Sequence[int]) -> Any:
    shapes = [[length if axis == SEQUENCE else axis for axis in tensor.axes] for length in lengths]
    several = SEQUENCE in tensor.axes and len(shapes) > 1
    shape = ct.EnumeratedShapes(shapes=shapes, default=shapes[-1]) if several else tuple(shapes[-1])
    return ct.TensorType(name=tensor.name, shape=shape, dtype=np.dtype(tensor.dtype).type)
