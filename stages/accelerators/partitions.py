"""Into how many parts a graph falls when an accelerator takes some of its operators."""

from __future__ import annotations

from collections.abc import Sequence

from stages.accelerators.graph import Graph


def partitions(graph: Graph, taken: Sequence[bool]) -> list[list[int]]:
    """Divide a graph into runs of operators that one side executes, in turns.

    A run holds all operators of its side that need nothing from a later one, wherever they stand in the file: what
    TFLite does (`PartitionGraphIntoIndependentNodeSubsets`, tensorflow/lite/graph_info.cc), and ONNX Runtime
    (`CreateSupportedPartitions`, core/providers/partitioning_utils.cc).

    Args:
        graph: operators in an order in which they can be executed.
        taken: of each operator, whether the accelerator executes it.

    Returns:
        Positions of the operators of each run that the accelerator executes, in order of execution.
    """
    makers, waiting = dict[str, int](), list[set[int]]()
    for index, one in enumerate(graph.operators):
        # The last before it: a state is read and written again and again.
        waiting.append({makers[tensor.name] for tensor in one.given if tensor.name in makers})
        makers |= {tensor.name: index for tensor in one.outputs}
    left, done = list(range(len(graph.operators))), set[int]()
    found: list[list[int]] = []
    while left:
        ready = (index for index in left if waiting[index] <= done)
        side = taken[next(ready)]
        run = []
        for index in left:  # what makes an operator's inputs stands before it
            if taken[index] == side and waiting[index] <= done:
                run.append(index)
                done.add(index)
        left = [index for index in left if index not in done]
        if side:
            found.append(run)
    return found
