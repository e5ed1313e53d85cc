"""Have artifacts answer on a device, as parity asks them."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from stages.core import artifact as files
from stages.measure import items
from stages.running.runner import ANSWERS, Request, Runner
from stages.schema.asked import Asked
from stages.targets import registry
from stages.targets.answers import Ask, Given


def on(runner: Runner, target: str, reference: Path) -> Ask | str:
    """Return what asks artifacts of a target on a device, or the reason why none runs there.

    Args:
        runner: the device.
        target: their platform.
        reference: output of `reference`: what they are asked.
    """
    reason = runner.available() or registry.runtime(target).available()
    return partial(_ask, runner, target, reference) if reason is None else reason


def _ask(runner: Runner, target: str, reference: Path, directory: Path, asked: Asked) -> Given:
    request = Request(target=target, threads=1, answer=asked, time=None)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        receipt = runner.run(request, directory, reference, out)
        records, logits = items.read(out), files.read_arrays(out / ANSWERS)
    return Given(receipt["compared"], records, logits, receipt["runtime"], receipt["runtime_versions"])
