"""Forge what ships, as somebody would who can write everything but a signature, and ask whether it is noticed.

Before a release the gate's verdicts are forged, with the statement that goes with them, and `stages.release` must
refuse. After it a bundle is forged and sealed again, and `stages.audit` must name what is wrong. Both run as commands,
in a copy of the workspace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import stages
from stages.core import artifact, params
from stages.injecting.catalogue import NotApplicable
from stages.injecting.inject import CLEAN, Case, Outcome
from stages.lineage import lock
from stages.lineage.bundle import SUMS, close, statement_path
from stages.schema import layout, verdict
from stages.targets.base import read_signature
from stages.tasks.facts import facts

MODELS = (".mlmodel", ".onnx", ".ort", ".tflite")
"""How the files of a bundle's other forms end."""
LEFT_BEHIND = ("*.log", layout.DEMO, layout.OPINIONS, "promoted.json", "tracked.json")
"""What neither a release nor the audit of a bundle reads, and MLflow's record, which names a database elsewhere."""


def exchange_verdicts(build: Path, key: str) -> None:
    """Give a variant the verdict on another, and that one its own."""
    entries = verdict.read(build / layout.VERDICTS)
    other = next((name for name in sorted(entries) if name != key), None)
    if other is None:
        raise NotApplicable("there is no other variant")
    entries[key], entries[other] = entries[other], entries[key]
    _judge(build, entries)


def weaken_threshold(build: Path, key: str) -> None:
    """Let the gate have asked for nothing."""
    entries = verdict.read(build / layout.VERDICTS)
    entries[key] |= {"thresholds": _weakened(entries[key]["thresholds"]), "reasons": [], "verdict": "pass"}
    _judge(build, entries)


def weaken_shipped_threshold(bundle: Path) -> None:
    """Let the bundle say that the gate asked for nothing."""
    verdict = artifact.read_json(bundle / "verdict.json")
    artifact.write_json(bundle / "verdict.json", verdict | {"thresholds": _weakened(verdict["thresholds"])})


def reverse_golden(bundle: Path) -> None:
    """Reverse the golden outputs, by which an app checks itself on a device."""
    arrays = artifact.read_arrays(bundle / "golden.npz")
    outputs = {name: value[:, ::-1] for name, value in arrays.items() if name.endswith("_logits")}
    _replace(bundle / "golden.npz")
    artifact.write_arrays(
        bundle / "golden.npz", arrays | {name: np.ascontiguousarray(value) for name, value in outputs.items()}
    )


def embellish_card(bundle: Path) -> None:
    """Write 99.9 % into the model card."""
    said = f"{facts(read_signature(bundle).task).PRIMARY.said} on the test split"
    card = (bundle / "README.md").read_text(encoding="utf-8").split("\n")
    lines = [f"| {said} | 99.9 % | – |" if said in line else line for line in card]
    _write(bundle / "README.md", "\n".join([*lines, f"{said}: 99.9 %."]))


def rotate_labels(bundle: Path) -> None:
    """Give every class the name of its neighbour, in every file that says it."""
    if not (bundle / "labels.json").is_file():
        raise NotApplicable("it has no labels")
    labels = artifact.read_json(bundle / "labels.json")
    rotated = [*labels[1:], labels[0]]
    artifact.write_json(bundle / "labels.json", rotated)
    _write(bundle / "labels.txt", "".join(f"{label}\n" for label in rotated))
    for path in sorted(bundle.glob("*/**/config.json")):
        config = artifact.read_json(path)
        config["id2label"] = {str(index): label for index, label in enumerate(rotated)}
        config["label2id"] = {label: index for index, label in enumerate(rotated)}
        artifact.write_json(path, config)


def edit_sample(bundle: Path) -> None:
    """Add a line to a program that people run."""
    found = sorted((bundle / "samples").glob("*")) if (bundle / "samples").is_dir() else []
    if not found:
        raise NotApplicable("it has no samples")
    _write(found[0], found[0].read_text(encoding="utf-8") + "\n")


def swap_form(bundle: Path) -> None:
    """Change a byte of another form of the artifact, which nothing but the release wrote."""
    found = [path for path in sorted(bundle.glob("*/**/*")) if path.suffix in MODELS and path.is_file()]
    if not found:
        raise NotApplicable("it has no other form")
    content = bytearray(found[0].read_bytes())
    content[len(content) // 2] ^= 1
    _replace(found[0])
    found[0].write_bytes(content)


VERDICTS: Mapping[str, Callable[[Path, str], None]] = {
    "verdicts_exchanged": exchange_verdicts,
    "threshold_weakened": weaken_threshold,
}
"""Forgeries of the gate's verdicts, before a release."""
BUNDLES: Mapping[str, Callable[[Path], None]] = {
    "bundle_threshold": weaken_shipped_threshold,
    "bundle_golden": reverse_golden,
    "bundle_card": embellish_card,
    "bundle_labels": rotate_labels,
    "bundle_sample": edit_sample,
    "bundle_form": swap_form,
}
"""Forgeries of a bundle that is sealed again afterwards."""
RENAMED = "bundle_renamed"
FORGERIES = (*VERDICTS, *BUNDLES, RENAMED)


def at_release(case: Case, fault: str, scratch: Path, *, seed: int = 0) -> Outcome:
    """Forge one thing and run the command that should notice.

    Args:
        case: the variant.
        fault: one of `FORGERIES`, or `CLEAN`.
        scratch: an empty directory.
        seed: unused; nothing here is chosen at random.
    """
    del seed
    build = _workspace(case, scratch)
    bundle = build / layout.RELEASE / case.key
    try:
        if fault in VERDICTS:
            VERDICTS[fault](build, case.key)
            return _release(scratch)
        if not bundle.is_dir():
            raise NotApplicable("it was not released")
        if fault == RENAMED:
            _rename(bundle)
        elif fault != CLEAN:
            BUNDLES[fault](bundle)
            reseal(bundle)
    except NotApplicable as reason:
        return Outcome("not_applicable", str(reason))
    return _audit(scratch, case.key)


def reseal(bundle: Path) -> None:
    """Write manifest, attestation and sums anew, so that a bundle agrees with itself: nobody needs a key for that."""
    recorded = artifact.manifest(bundle)
    recorded["files"] = {
        name: {"sha256": artifact.sha256(bundle / name), "size_bytes": (bundle / name).stat().st_size}
        for name in recorded["files"]
    }
    verdict = artifact.read_json(bundle / "verdict.json")
    recorded["facts"] = {name: verdict.get(name, said) for name, said in recorded["facts"].items()}
    artifact.write_json(bundle / artifact.MANIFEST, recorded)
    for name in (SUMS, "attestation.json"):
        _replace(bundle / name)
    close(bundle, None, None)


def _rename(bundle: Path) -> None:
    """Put another variant's bundle, seal and all, under this one's name."""
    other = next((path for path in sorted(bundle.parent.glob(f"*/{SUMS}")) if path.parent != bundle), None)
    if other is None:
        raise NotApplicable("there is no other bundle")
    shutil.rmtree(bundle)
    shutil.copytree(other.parent, bundle)


def _weakened(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {**asked, "variant": asked["variant"][:1]}


def _judge(build: Path, entries: Mapping[str, verdict.Entry]) -> None:
    """Write verdicts, and the statement that says the gate wrote them."""
    artifact.write_json(build / layout.VERDICTS, {"variants": entries})
    path = statement_path(build, build / layout.VERDICTS)
    statement = artifact.read_json(path)
    for subject in statement["subject"]:
        if subject["name"] == f"build/{layout.VERDICTS}":
            subject["digest"]["sha256"] = artifact.sha256(build / layout.VERDICTS)
    artifact.write_json(path, statement)


def _workspace(case: Case, scratch: Path) -> Path:
    """Link everything that the two commands read: nothing is copied, and whatever is forged is written anew."""
    ignore = shutil.ignore_patterns(*LEFT_BEHIND)
    shutil.copytree(case.build, scratch / "build", ignore=ignore, copy_function=_link)
    shutil.copy2(case.build.parent / lock.LOCK, scratch / lock.LOCK)
    tree = params.read(case.build.parent / params.PARAMS_FILE)
    tree["variants"] = {case.key: tree["variants"][case.key]}
    (scratch / params.PARAMS_FILE).write_text(yaml.safe_dump(tree), encoding="utf-8")
    (scratch / "stages").symlink_to(Path(stages.__file__).resolve().parent)
    return scratch / "build"


def _link(source: str, destination: str) -> None:
    try:
        os.link(Path(source).resolve(), destination)
    except OSError:  # another file system
        shutil.copy2(source, destination)


def _replace(path: Path) -> None:
    """Let go of a link to the build's own file before another is written in its place."""
    path.unlink()


def _write(path: Path, text: str) -> None:
    _replace(path)
    path.write_text(text, encoding="utf-8")


def _release(scratch: Path) -> Outcome:
    arguments = f"--build build --verdicts build/{layout.VERDICTS} --lock {lock.LOCK} --out build/{layout.RELEASE}"
    return _outcome(_run(scratch, "stages.release", *arguments.split()))


def _audit(scratch: Path, key: str) -> Outcome:
    return _outcome(_run(scratch, "stages.audit", f"build/{layout.RELEASE}/{key}"))


def _run(scratch: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=scratch, capture_output=True, text=True, check=False
    )


def _outcome(done: subprocess.CompletedProcess[str]) -> Outcome:
    """Only a refusal in one line counts: a command that breaks has noticed nothing."""
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode == 0:
        return Outcome("pass", "")
    if done.returncode == 1 and said.startswith("error: "):
        return Outcome("refused", said.removeprefix("error: "))
    raise RuntimeError(f"{done.args}: {done.stderr}")
