"""The operations of MIL in numpy, one module per family; importing this package fills `registry.OPS`.

Formulas follow the docstrings of coremltools' `converters/mil/mil/ops/defs`; where those leave something open, the
operator tests that ship with coremltools decide (`benchmarks/coreml_operator_tests.py`).
"""

from stages.coreml.ops import (
    activation,
    classification,
    constexpr,
    convolution,
    elementwise,
    gathering,
    linear,
    lists,
    normalisation,
    quantisation,
    reduction,
    scattering,
    shape,
    slicing,
    tensor,
)

__all__ = [
    "activation",
    "classification",
    "constexpr",
    "convolution",
    "elementwise",
    "gathering",
    "linear",
    "lists",
    "normalisation",
    "quantisation",
    "reduction",
    "scattering",
    "shape",
    "slicing",
    "tensor",
]
