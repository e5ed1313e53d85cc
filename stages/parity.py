"""Measure how well an artifact agrees with the reference, how good its answers are, and that nothing of it is lost.

Reads: the artifact, the model it was quantised from, the checkpoint below, the reference's inputs and logits, the
teacher's test logits, the data's labels and probe texts.
Writes: `metrics.json` (values, intervals, weights, the runtime that executed), `items.npz` (a row for each
    answer, by split), `outputs.npz` (logits of the probe split), `manifest.json`.
Why: it measures and never judges, so that a new threshold reruns the gate alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.measure.items import ITEMS, arrays
from stages.running import asking, local
from stages.targets.parity import Inputs, measure_artifact


def run(target: str, artifact_dir: Path, inputs: Inputs, out: Path) -> None:
    """Measure whatever bytes lie in `artifact_dir`, altered ones too: the gate judges, with `altered` in hand."""
    for directory in (inputs.converted, inputs.checkpoint, inputs.reference, inputs.data):
        artifact.require(directory)
    measured = measure_artifact(target, artifact_dir, inputs, asking.on(local, target, inputs.reference))
    parents = {"artifact": artifact_dir, **vars(inputs)}
    with artifact.writing(out, stage="parity", parents=parents) as temporary:
        artifact.write_json(temporary / "metrics.json", measured.found)
        artifact.write_arrays(temporary / "outputs.npz", {} if measured.probe is None else {"probe": measured.probe})
        artifact.write_arrays(temporary / ITEMS, arrays(measured.records))


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    places = ("converted", "checkpoint", "reference", "teacher", "data")
    parser = cli.parser(__doc__, "artifact", *places, "out")
    parser.add_argument("--target", required=True)
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            arguments.target,
            arguments.artifact,
            Inputs(**{name: getattr(arguments, name) for name in places}),
            arguments.out,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
