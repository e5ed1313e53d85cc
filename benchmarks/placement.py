"""Whether LiteRT's interpreter places operators where `coverage@V` says, in artifacts of any build.

    python -m benchmarks.placement build/artifact/tflite-nnapi-*/

XNNPACK is the one delegate that a host without a phone has. Its placement is read off the interpreter's own plan: what
a delegate's node computes between its inputs and its outputs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.accelerators import litert_xnnpack, tflite_nnapi
from stages.accelerators.partitions import partitions
from stages.targets.tflite_nnapi.flatbuffer import MODEL

DELEGATE = "DELEGATE"


def placed(artifact: Path) -> tuple[dict[int, int], int]:
    """Ask the interpreter: operator of the first signature → part of the delegate that executes it, and their number.

    Args:
        artifact: directory with a `.tflite` file.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(artifact / MODEL), num_threads=1)
    interpreter.allocate_tensors()
    plan = interpreter._get_ops_details()
    makers = {out: at for at, one in enumerate(plan) if one["op_name"] != DELEGATE for out in one["outputs"]}
    found: dict[int, int] = {}
    for number, part in enumerate(one for one in plan if one["op_name"] == DELEGATE):
        waiting = list(part["outputs"])
        while waiting:  # from what the part gives out back to what it takes
            tensor = waiting.pop()
            maker = makers.get(tensor)
            if tensor not in part["inputs"] and maker is not None and maker not in found:
                found[maker] = number
                waiting += plan[maker]["inputs"].tolist()
    return found, sum(one["op_name"] != DELEGATE for one in plan)


def compared(artifact: Path) -> tuple[int, list[str], int, int]:
    """Compare prediction and plan.

    Returns:
        Operators, those that are elsewhere than predicted, and parts as predicted and as found.

    Raises:
        ValueError: the plan has another number of operators than the file.
    """
    graph = tflite_nnapi.graphs(artifact)[0]
    said = litert_xnnpack.XNNPACK.judge(graph)
    found, count = placed(artifact)
    if count != len(graph.operators):
        raise ValueError(f"{artifact}: the plan has {count} operators, the file {len(graph.operators)}")
    elsewhere = [f"{at} {one.kind}" for at, one in enumerate(graph.operators) if (said[at] is None) != (at in found)]
    return count, elsewhere, len(partitions(graph, [one is None for one in said])), len(set(found.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row per artifact, and the sum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifacts", type=Path, nargs="+")
    rows = {path: compared(path) for path in parser.parse_args(argv).artifacts}
    print("| artifact | operators as predicted | parts, predicted and found |\n|---|--:|--:|")
    for path, (count, elsewhere, predicted, found) in rows.items():
        named = f" ({', '.join(elsewhere)})" if elsewhere else ""
        print(f"| {path.name} | {count - len(elsewhere):,} of {count:,}{named} | {predicted}, {found} |")
    total, wrong = sum(row[0] for row in rows.values()), sum(len(row[1]) for row in rows.values())
    print(f"\n{total - wrong:,} of {total:,} operators as predicted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
