"""Run every TFLite artifact in TensorFlow's own interpreter and compare its answers with LiteRT's.

Reads: the built artifacts of tflite-nnapi, what parity measured of them, the references' inputs, params.yaml.
Writes: `build/second_opinion/VARIANT/`: `answers.npz`, `metrics.json`, `manifest.json` (which names the artifact, so
    that the report shows no opinion on other bytes).
Why: LiteRT vouches for files that its own converter wrote. Kernels of another age may load them and answer wrongly,
    which no gate of the build can see. A command for people (`make tensorflow-check`) in an environment of its own:
    beside TensorFlow, coremltools takes up to a minute to import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact, cli, params
from stages.core.errors import ArtifactError, first_line
from stages.core.params import Section
from stages.measure import items
from stages.measure.items import NO_ANSWER, Record
from stages.measure.statistics import rate_interval
from stages.schema.gate import Gate
from stages.schema.layout import OPINIONS, behind
from stages.schema.measured import Part
from stages.schema.variant import Variant
from stages.targets.answers import evaluate, measure
from stages.targets.base import Opened, read_signature
from stages.targets.tflite_nnapi.flatbuffer import MODEL
from stages.targets.tflite_nnapi.runtime import opened, signature_runners
from stages.tasks import registry as tasks

KERNELS = {"reference": "BUILTIN_REF", "default": "AUTO"}
"""Name → TensorFlow's resolver: its plain C++ kernels, and the ones a caller gets, XNNPACK delegate included."""
TARGET, METRIC = "tflite-nnapi", "top1_agreement"


class Params(Section):
    """The chosen variants, and how far two runtimes may answer apart."""

    gate: Gate
    variants: dict[str, Variant]


def open_in_tensorflow(directory: Path, kernels: str) -> Opened:
    """Open an artifact in TensorFlow's interpreter.

    Args:
        directory: output of `quantize`.
        kernels: one of `KERNELS`.

    Raises:
        ArtifactError: TensorFlow cannot load the file.
    """
    from tensorflow import lite

    signature = read_signature(directory)
    resolver = lite.experimental.OpResolverType[KERNELS[kernels]]
    try:
        interpreter = lite.Interpreter(str(directory / MODEL), experimental_op_resolver_type=resolver, num_threads=1)
        runners = signature_runners(interpreter, signature)
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"TensorFlow cannot open '{directory / MODEL}': {first_line(error)}") from error
    return opened(runners, signature)


def compare(judged: Record, given: NDArray[np.int32]) -> Part:
    """Compare TensorFlow's answers with LiteRT's to the items both were asked.

    Args:
        judged: LiteRT's, as parity recorded them.
        given: TensorFlow's to the first items.

    Returns:
        `values` and 95 % `intervals`: how many are alike, and how many of TensorFlow's are no numbers.
    """
    n, bad = len(given), int((given == NO_ANSWER).sum())
    if bad:
        return {"values": {"n": n, "non_finite_count": bad}, "intervals": {}}
    same = judged.answer[:n] == given
    values = {METRIC: float(same.mean()), "n": n, "non_finite_count": 0}
    return {"values": values, "intervals": {METRIC: rate_interval(same, judged.case[:n])}}


def apart(found: Mapping[str, Part], least: float) -> list[str]:
    """Say on which splits two runtimes answer alike less often than `least`, or not in numbers."""
    said = []
    for split, measured in found.items():
        values = measured["values"]
        if METRIC not in values:
            said.append(f"{values['non_finite_count']} answers to the {split} split are NaN or infinite")
        elif values[METRIC] < least:
            said.append(
                f"{100 * values[METRIC]:.1f} % of {values['n']} {split} utterances alike, {100 * least:g} asked"
            )
    return said


def ask(key: str, variant: Variant, build: Path, count: int, out: Path) -> dict[str, dict[str, Part]]:
    """Run one artifact on both kinds of kernels and write what it answered.

    Args:
        key: the variant.
        variant: its settings.
        build: directory of all stage outputs.
        count: test utterances to ask, the first ones.
        out: where its opinion goes.

    Returns:
        Kernels → split → measured.
    """
    places = behind(build, key, variant.compression, variant.target)
    directory, reference, parity = artifact.require(places["artifact"]), places["reference"], places["parity"]
    judged = items.read(artifact.require(parity))["test"]
    probe, test = (artifact.read_arrays(reference / f"{name}.npz") for name in ("probe", "test"))
    # What is compared there is LiteRT's logits, which parity keeps of this split, and not the reference's.
    probe["logits"] = artifact.read_arrays(parity / "outputs.npz")["probe"]
    asked = {"probe": probe, "test": {name: rows[:count] for name, rows in test.items()}}
    exercise, answers = tasks.exercise(read_signature(directory).task), dict[str, NDArray[np.int32]]()
    found: dict[str, dict[str, Part]] = {}
    for kernels in KERNELS:
        runtime = open_in_tensorflow(directory, kernels)
        found[kernels] = {}
        for name, split in asked.items():
            answered = evaluate(exercise, runtime, split, f"{key} {kernels} {name}")
            part, record = measure(split, exercise.case(split), answered)
            answers[f"{kernels}_{name}"] = record.answer
            found[kernels][name] = part if name == "probe" else compare(judged, record.answer)
    parents = {"artifact": directory, "parity": parity, "reference": reference}
    with artifact.writing(out, stage="second_opinion", parents=parents) as temporary:
        artifact.write_arrays(temporary / "answers.npz", answers)
        artifact.write_json(temporary / "metrics.json", {"kernels": found, "tensorflow": _version()})
    return found


def run(settings: Params, build: Path, count: int) -> None:
    """Ask TensorFlow about every TFLite variant that LiteRT ran.

    Raises:
        ArtifactError: TensorFlow is not installed, cannot run an artifact, or answers otherwise than LiteRT.
    """
    if util.find_spec("tensorflow") is None:
        raise ArtifactError("TensorFlow is not installed here", next_step="run `make tensorflow-check`")
    chosen = {key: variant for key, variant in settings.variants.items() if variant.target == TARGET}
    said = []
    for key, variant in chosen.items():
        bounds = (bound.at_least for bound in settings.gate.bounds(variant.precision) if bound.metric == METRIC)
        least = next((bound for bound in bounds if bound is not None), 1.0)
        try:
            found = ask(key, variant, build, count, build / OPINIONS / key)
        except ArtifactError as error:
            said.append(f"{key}: {error}")
            continue
        for kernels, measured in found.items():
            values = measured["test"]["values"]
            print(
                f"{key} {kernels}: {_share(values)} test utterances alike, probe {_share(measured['probe']['values'])}"
            )
            said += [f"{key} with {kernels} kernels: {what}" for what in apart(measured, least)]
    if said:
        raise ArtifactError(
            f"TensorFlow {_version()} does not answer as LiteRT does: {'; '.join(said)}",
            next_step="do not ship to apps whose TensorFlow Lite is older than the LiteRT of this build",
        )


def _share(values: Mapping[str, float]) -> str:
    return f"{100 * values[METRIC]:.2f} % of {values['n']}" if METRIC in values else "no number of"


def _version() -> str:
    import tensorflow

    return str(tensorflow.__version__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "build")
    parser.add_argument("--items", type=int, required=True, help="test utterances to ask, the first ones")
    return cli.execute(
        parser,
        argv,
        lambda arguments: run(
            params.load(Params, {"gate": "gate", "variants": "variants"}, arguments.params),
            arguments.build,
            arguments.items,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
