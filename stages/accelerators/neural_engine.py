"""Where Core ML is likely to execute operations: advice, Apple publishes no list and Core ML decides on the device.

What is written, read 2026-12-01:
* apple/coremltools, docs "Typed Execution" and "Flexible Input Shapes": float32 programs run on CPU and GPU, the Neural
  Engine computes in float16; enumerated shapes keep it, ranges of shapes may lose it.
* machinelearning.apple.com/research/neural-engine-transformers and apple/ml-ane-transformers: matrix products,
  normalisation and softmax are its work; it prefers 1×1 convolutions over channels-first tensors.
* hollance/neural-engine, docs/unsupported-layers.md (old, says itself that part is guessed): gather, recurrent layers.
* ane-guide.readthedocs.io, chapter 4 (third party, 2026): no path for scatter, products over an axis, recurrent cells;
  axes of fewer than 16,384 elements.

On a Mac Core ML is asked instead (compute_plan.py).
"""

from __future__ import annotations

from collections.abc import Callable

from stages.accelerators.graph import Accelerator, Operator, Refusal, planned_or

SOURCE = "Apple's and others' pages, read 2026-12-01 (neural_engine.py names them); no device confirmed it"
WIDEST = 16384
"""Elements of an axis."""
FLOATS = ("fp16", "fp32")
_TAKEN = """
abs add avg_pool batch_norm cast clip concat conv conv_transpose cos dequantize einsum erf exp expand_dims gelu
identity instance_norm l2_norm layer_norm leaky_relu linear matmul max_pool maximum minimum mul pad pow quantize
read_state real_div reduce_max reduce_mean reduce_min reduce_sum relu relu6 reshape rsqrt
scaled_dot_product_attention select sigmoid silu sin slice_by_index slice_by_size slice_update softmax split sqrt
square squeeze stack sub tanh tile transpose write_state
"""
TAKEN = frozenset(_TAKEN.split())
"""Operations that are reported to run on it in float16."""
LOOKUPS = ("gather", "gather_along_axis", "gather_nd")
KEPT = ("read_state", "write_state", "slice_update")


def _integers(one: Operator) -> bool:
    """Whether it computes nothing in float: index arithmetic, shapes, masks of truth values."""
    return not any(tensor.dtype in FLOATS for tensor in one.outputs)


def _neural_engine(one: Operator) -> Refusal | None:
    if one.kind in LOOKUPS and not _integers(one):
        return Refusal("lookups are reported to run on the CPU")
    if _integers(one):
        return Refusal("it computes with integers or truth values, of shapes and positions")
    if any(tensor.dtype == "fp32" and not tensor.constant for tensor in one.tensors) and one.kind != "cast":
        return Refusal("it computes in float32, and the Neural Engine in float16 alone", "precision `fp16`")
    if one.kind not in TAKEN:
        return Refusal("no report that the Neural Engine has it")
    if one.options.get("ranged"):
        return Refusal("its sizes come from a range of shapes", "enumerated shapes, one for each sequence length")
    if any(tensor.rank > 5 for tensor in one.tensors):
        return Refusal("a tensor has more than five axes", "at most five axes")
    if any(size >= WIDEST for tensor in one.outputs for size in tensor.shape or ()):
        return Refusal(
            f"an axis has {WIDEST:,} elements or more", "divide the product over the vocabulary into parts", doubt=True
        )
    return None


def _gpu(one: Operator) -> Refusal | None:
    return Refusal("it computes with integers or truth values, of shapes and positions") if _integers(one) else None


def _processor(name: str, title: str, source: str, rule: Callable[[Operator], Refusal | None]) -> Accelerator:
    return Accelerator(name, title, "advisory", source, planned_or(name, rule))


PROCESSORS = (
    _processor("neural_engine", "Core ML, Neural Engine", SOURCE, _neural_engine),
    _processor("metal_gpu", "Core ML, GPU (Metal)", SOURCE, _gpu),
    _processor("coreml_cpu", "Core ML, CPU", "Core ML executes every operation on the CPU", lambda _: None),
)
