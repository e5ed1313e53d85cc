"""Find the normalisations of a TFLite graph, with the sums that they normalise."""

from __future__ import annotations

from typing import Any

import networkx as nx

from stages.targets.tflite_nnapi import flatbuffer

ELEMENTWISE = {"ADD", "MEAN", "MUL", "RESHAPE", "RSQRT", "SQUARED_DIFFERENCE", "SUB"}
"""What the converter writes a LayerNorm with; residual sums and the sum of embeddings are ADD too."""
OF_ALL = {"MEAN", "RSQRT"}
"""What no other part of an encoder has."""


def scopes(model: Any) -> list[str]:
    """Return the names of what the operators of every normalisation compute, by which ai-edge-quantizer knows them.

    A normalisation is a connected part of the graph of `ELEMENTWISE` operators that has those of `OF_ALL`.

    Args:
        model: the converted file.
    """
    found: set[str] = set()
    for graph in model.subgraphs:
        operators = [(name, op) for name, op in flatbuffer.operators_of(model, graph) if name in ELEMENTWISE]
        makers = {int(index): number for number, (_, op) in enumerate(operators) for index in op.outputs}
        links = nx.Graph()
        links.add_nodes_from(range(len(operators)))
        links.add_edges_from(
            (number, makers[int(index)])
            for number, (_, op) in enumerate(operators)
            for index in op.inputs
            if int(index) in makers
        )
        for part in nx.connected_components(links):
            if {operators[number][0] for number in part} >= OF_ALL:
                found |= {graph.tensors[operators[number][1].outputs[0]].name.decode() for number in part}
    return sorted(found)


def types(model: Any) -> set[str]:
    """Return the types that normalisations are computed in, none where there is no normalisation."""
    names = flatbuffer.tensor_types()
    return {
        names[graph.tensors[op.outputs[0]].type]
        for graph in model.subgraphs
        for name, op in flatbuffer.operators_of(model, graph)
        if name == "RSQRT"
    }
