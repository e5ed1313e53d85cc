"""Lists of tensors, which decoders with loops carry (MIL: `control_flow.py`)."""

from __future__ import annotations

import numpy as np

from stages.coreml import dtypes
from stages.coreml.dtypes import Array
from stages.coreml.errors import Mismatch
from stages.coreml.ops._limits import allocate
from stages.coreml.ops.gathering import checked_indices
from stages.coreml.registry import Labels, Tensor, TensorList, op


@op("make_list", returns=None)
def make_list(
    elem_shape: Labels,
    init_length: int = 1,
    dynamic_length: bool = True,
    dtype: str = "fp32",
) -> TensorList:
    """A list of zeros; of unwritten elements where the shape names symbols."""
    sizes = [size for size in elem_shape if isinstance(size, np.ndarray)]
    blank = None
    if len(sizes) == len(elem_shape):
        blank = np.zeros(allocate(tuple(int(size.item()) for size in sizes)), dtypes.from_name(dtype).carrier)
    return TensorList((blank,) * allocate((init_length,))[0], dynamic_length, blank)


@op("list_length", returns=dtypes.INT32)
def list_length(ls: TensorList) -> Tensor:
    """Number of elements."""
    return np.array(len(ls.elements), np.int32)


@op("list_write", returns=None)
def list_write(ls: TensorList, index: int, value: Tensor) -> TensorList:
    """A list with one element replaced; a dynamic one grows to hold it."""
    return _written(ls, [index], [value])


@op("list_scatter", returns=None)
def list_scatter(ls: TensorList, indices: Tensor, value: Tensor) -> TensorList:
    """A list with elements replaced by the rows of a tensor."""
    if indices.ndim != 1 or value.ndim < 1 or value.shape[0] != indices.size:
        raise Mismatch(f"{value.shape} for {indices.size} elements")
    return _written(ls, indices.tolist(), list(value))


def _written(ls: TensorList, indices: list[int], values: list[Array]) -> TensorList:
    elements = list(ls.elements)
    for index, value in zip(indices, values, strict=True):
        if ls.dynamic and index >= len(elements):
            allocate((index + 1,))
            elements += [ls.blank] * (index + 1 - len(elements))
        if not 0 <= index < len(elements):
            raise Mismatch(f"element {index} of a list of {len(elements)}")
        elements[index] = np.asarray(value)
    return TensorList(tuple(elements), ls.dynamic, ls.blank)


@op("list_read", returns=None, arithmetic="moves")
def list_read(ls: TensorList, index: int) -> Tensor:
    """One element."""
    return _rows(ls, np.array([index]))[0]


@op("list_gather", returns=None, arithmetic="moves")
def list_gather(ls: TensorList, indices: Tensor) -> Tensor:
    """Elements, stacked along a new first axis."""
    return np.stack(_rows(ls, indices))


def _rows(ls: TensorList, indices: Tensor) -> list[Array]:
    rows = [ls.elements[index] for index in checked_indices(indices, len(ls.elements)).tolist()]
    written = [row for row in rows if row is not None]
    if len(written) != len(rows):
        raise Mismatch("an element is read before it is written")
    return written
