"""Put single faults into saved programs and weight files, and print what finds each: refusal, parity or weights.

`python -m benchmarks.coreml_mutations` converts a two-layer BERT and prints the table of docs/coreml.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.coreml_edit import Edit, Subject, relative_error
from benchmarks.coreml_faults import MUTATIONS
from benchmarks.coreml_subjects import subjects
from stages.coreml import open_program
from stages.coreml.errors import ProgramError
from stages.coreml.weights import compare


def found_by(subject: Subject, mutate: Callable[[Edit], None] | None) -> tuple[str, str]:
    """Mutate a copy of a package and say what finds it.

    Returns:
        (`refusal`, `parity`, `weights` or `nothing`, detail).
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "mutated.mlpackage"
        shutil.copytree(subject.package, package)
        if mutate is not None:
            edit = Edit(package)
            mutate(edit)
            edit.save(package)
        try:
            return _judge(package, subject)
        except ProgramError as error:
            return "refusal", str(error).replace(f"{folder}/", "")  # the table is the same on every host


def _judge(package: Path, subject: Subject) -> tuple[str, str]:
    program = open_program(package)
    state = program.make_state() if program.states else None
    errors = []
    for inputs, expected in zip(subject.runs, subject.expected, strict=True):
        (output,) = program.run(inputs, "exact", state=state).values()
        errors.append(relative_error(np.asarray(output), expected) if output.shape == expected.shape else np.inf)
    worst = float(np.max(errors))
    if not worst <= subject.bound:
        return "parity", f"relative error {worst:.1e}, bound {subject.bound:.1e}"
    if subject.checkpoint:
        report = compare(program, subject.checkpoint)
        if not report.passed:
            names = [weight.source for weight in report.corrupted] + list(report.unmatched)
            beyond = sum(weight.beyond for weight in report.corrupted)
            return "weights", f"{beyond} elements beyond their bound in {names[0]}"
    return "nothing", f"relative error {worst:.1e}"


def table(
    subjects: Mapping[str, Subject], mutations: Mapping[str, Mapping[str, Callable[[Edit], None]]]
) -> Iterator[str]:
    """Yield the table as Markdown lines."""
    yield "| program | fault | found by | how |"
    yield "|---|---|---|---|"
    for key, faults in mutations.items():
        for name, mutate in faults.items():
            by, how = found_by(subjects[key], mutate)
            yield f"| {key} | {name} | {by} | {how.split('; next:')[0].replace('|', '/')[:110]} |"


def main() -> int:
    """Convert the subjects and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        made = subjects(Path(folder))
        for line in table(made, MUTATIONS):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
