"""A small but structurally complete `build/`, written as the stages write it, and what tests do with its report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages import gate, report
from stages.core import artifact
from stages.core.params import Section, parse
from stages.measure import items
from stages.measure.statistics import proportion_interval
from stages.measure.top_logits import Logits
from stages.schema.device import Device
from stages.schema.gate import Gate
from stages.schema.variant import Float, Variant
from stages.targets import parity
from stages.targets.answers import measure
from stages.targets.facts import executor
from stages.tasks.classify import quality
from tests.toys.operators import coverage_of

ROOT = Path(__file__).resolve().parents[2]
LABELS, PROBE, TEST, LENGTH = 6, 40, 400, 8
HOSTILE = "<script>alert('&')</script>"
UNAVAILABLE = "Core ML needs macOS; this host is Linux"

# key → target, precision, compression, logit noise, p50 ms, bytes
TABLE: dict[str, tuple[str, str, str, float, float, int]] = {
    "tflite-nnapi-fp32": ("tflite-nnapi", "fp32", "none", 1e-6, 1.31, 4_310_000),
    "tflite-nnapi-dynamic_wi8_afp32": ("tflite-nnapi", "dynamic_wi8_afp32", "none", 0.05, 0.62, 1_190_000),
    "tflite-nnapi-static_wi8_ai8": ("tflite-nnapi", "static_wi8_ai8", "none", 3.0, 0.21, 1_120_000),
    "coreml-metal-fp16": ("coreml-metal", "fp16", "none", 0.0, 0.0, 2_180_000),
    "coreml-metal-weight_only_wi8": ("coreml-metal", "weight_only_wi8", "none", 0.0, 0.0, 1_150_000),
    "coreml-metal-pal4": ("coreml-metal", "pal4", "none", 0.0, 0.0, 640_000),
    "onnx-cpu-fp32": ("onnx-cpu", "fp32", "none", 2e-6, 0.94, 4_330_000),
    "onnx-cpu-dynamic_wi8_afp32": ("onnx-cpu", "dynamic_wi8_afp32", "none", 0.06, 0.47, 1_180_000),
    "onnx-cpu-pruned": ("onnx-cpu", "dynamic_wi8_afp32", "pruned", np.nan, 0.33, 880_000),
}
RUNTIME_LABELS = {"tflite-nnapi": "litert-cpu-xnnpack", "onnx-cpu": "onnxruntime-cpu"}
VERSIONS = {"tflite-nnapi": ("ai-edge-litert", "2.3.0"), "onnx-cpu": ("onnxruntime", "1.32.0")}
UNTOUCHED = {"structure_difference_count": 0, "weights_beyond_count": 0, "conversion_weight_error_max": 0.0}
UNMOVED = {"conversion_relative_max_error": 0.0, "form_relative_error": 0.0}
HOST = {"cores": 2, "cpu_flags_sha256": "ab" * 32, "cpu_isa": "avx2", "cpu_model": "Example CPU", "machine": "x86_64"}

CARVED = {
    "calibration": {"source": "train", "taken": 90, "wanted": 128, "of": 360},
    "probe": {"source": "validation", "taken": PROBE, "wanted": PROBE, "of": 80 + PROBE},
}
CUT = {
    name: {"ends": ends, "texts": texts}
    for name, ends, texts in (
        ("train", 11, 270), ("validation", 0, 80), ("test", 7, TEST), ("calibration", 3, 90), ("probe", 0, PROBE)
    )
}  # fmt: skip

BOUNDS = [
    {"metric": "non_finite_count", "unit": "count", "at_most": 0.0, "min_n": 30},
    {"metric": "top1_agreement", "unit": "fraction", "at_least": 0.9, "min_n": 30},
]
GATE = Gate.model_validate(
    {
        "interval_below_n": 100,
        "targets": {},
        "reference": [{"metric": "accuracy", "unit": "fraction", "at_least": 0.5, "min_n": 30}],
        "baseline": None,
        "every": BOUNDS[:1],
        "precisions": {row[1]: BOUNDS[1:] for row in TABLE.values()},
    }
)
# All of them float: the gate looks into the files of integer ones, and these hold no model.
PRECISIONS = {row[1]: Float(kind="float", bits=32 if row[1] == "fp32" else 16) for row in TABLE.values()}


def variants(table: dict[str, Any] = TABLE) -> dict[str, Variant]:
    return {
        key: Variant(
            target=row[0], precision=row[1], compression=row[2], required=row[2] == "none", release_not_measured=False
        )
        for key, row in table.items()
    }


class Source(Section):
    data: dict[str, str]
    task: dict[str, str]


class Distilled(Section):
    student: dict[str, str]


class Compressed(Section):
    compression: dict[str, str]


def devices(*names: str) -> dict[str, Device]:
    """Devices of conf."""
    return {
        name: parse(Device, yaml.safe_load((ROOT / f"conf/device/{name}.yaml").read_text(encoding="utf-8")), name)
        for name in names
    }


def judge(root: Path, *, chosen: dict[str, Variant] | None = None, devices: dict[str, Device] | None = None) -> None:
    """Let the real gate judge a build."""
    settings = gate.Params(devices=devices or {}, gate=GATE, precisions=PRECISIONS, variants=chosen or variants())
    lock = root / "constraints.txt"
    lock.write_text("".join(f"{name}=={version}\n" for name, version in VERSIONS.values()), encoding="utf-8")
    gate.run(settings, root, lock, root / "verdicts.json", root / "metrics.json")


class Build:
    """A small but structurally complete `build/`, written as the stages write it and judged by the real gate."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.random = np.random.default_rng(0)
        self.labels = self.random.integers(0, LABELS, TEST)
        base = 4 * np.eye(LABELS)[self.labels] + self.random.normal(0, 1.2, (TEST, LABELS))
        self.test = {"teacher": base, "student": base + self.random.normal(0, 0.7, base.shape)}
        self._checkpoints()
        artifact.write_json(root / "host.json", HOST)
        for name in ("none", "pruned"):
            self._compression(name, 0.0 if name == "none" else 0.8)
        for key in TABLE:
            self._variant(key)
        self.judge()

    def write(
        self, relative: str, stage: str, files: dict[str, Any], params: Section | None = None, **parents: Path
    ) -> None:
        with artifact.writing(self.root / relative, stage=stage, parents=parents, params=params) as out:
            for name, content in files.items():
                if name.endswith(".json"):
                    artifact.write_json(out / name, content)
                elif name.endswith(".npy"):
                    np.save(out / name, content)
                elif name.endswith(".npz"):
                    np.savez(out / name, **content)
                else:
                    (out / name).write_bytes(content)

    def judge(self, chosen: dict[str, Variant] | None = None) -> None:
        judge(self.root, chosen=chosen)

    def _checkpoints(self) -> None:
        baseline = {"accuracy": 0.71, "accuracy_interval": [0.66, 0.75], "method": "TF-IDF", "n": TEST}
        labels = [f"label{index}" for index in range(LABELS)]
        files: dict[str, Any] = {
            "labels.json": labels,
            "summary.json": {"baseline": baseline, "carved": CARVED},
        }
        self.write("data", "prepare", files, Source(data={"kind": "embedded"}, task={"name": "classify"}))
        parents: dict[str, Path] = {"data": self.root / "data"}
        for name, layers, weights in (("teacher", 6, 8_800_000), ("student", 2, 1_070_000)):
            right = int((self.test[name].argmax(1) == self.labels).sum())
            files = {
                "config.json": {"model_type": "bert", "num_hidden_layers": layers, "hidden_size": 128},
                "evaluation.json": {
                    "accuracy": right / TEST,
                    "accuracy_interval": proportion_interval(right, TEST),
                    "n": TEST,
                    "parameters": weights,
                },
                "test_logits.npy": self.test[name].astype(np.float32),
            }
            self.write(name, name, files, Distilled(student={"kind": "shape"}), **parents)
            parents |= {name: self.root / name}

    def _compression(self, name: str, noise: float) -> None:
        files = {"profile.json": {"parameters": 1_070_000, "macs": 9_000_000}}
        self.write(
            f"compressed/{name}",
            "compress",
            files,
            Compressed(compression={"kind": name}),
            student=self.root / "student",
        )
        logits = {
            "probe": self.random.normal(0, 3, (PROBE, LABELS)),
            "test": self.test["student"] + self.random.normal(0, noise, self.test["student"].shape),
        }
        logits["coverage"] = logits["probe"][::2]
        labels = {"probe": np.full(PROBE, -1), "test": self.labels, "coverage": np.full(PROBE // 2, -1)}
        splits = {
            f"{split}.npz": {
                "attention_mask": np.ones((len(values), LENGTH), np.int32),
                "logits": values.astype(np.float32),
                "labels": labels[split],
            }
            for split, values in logits.items()
        }
        right = int((logits["test"].argmax(1) == self.labels).sum())
        summary = {"accuracy": right / TEST, "accuracy_interval": proportion_interval(right, TEST), "n": TEST}
        counts = {"counts": {"test": TEST, "probe": PROBE}}
        splits["summary.json"] = {**summary, **counts, "truncated": CUT, "max_length": LENGTH}
        self.write(f"reference/{name}", "reference", splits, compressed=self.root / "compressed" / name)

    def _variant(self, key: str) -> None:
        target, _, compression, noise, p50, size = TABLE[key]
        converted = self.root / "converted" / f"{compression}-{target}"
        if not converted.exists():
            self.write(f"converted/{converted.name}", "convert", {"model.bin": target.encode()},
                       compressed=self.root / "compressed" / compression)  # fmt: skip
        self.write(f"artifact/{key}", "quantize", {"model.bin": key.encode()}, converted=converted)
        self._parity(key, noise)
        values: dict[str, float] = {"size_bytes": size, "parameters": 1_070_000, "macs": 9_000_000}
        measured: dict[str, Any] = {"host": HOST, "intervals": {}, "load_average": [0.4, 0.3, 0.2], "values": values}
        if p50:
            for percent, factor in ((50, 1.0), (90, 1.2), (99, 1.5)):
                for name, longer in ((f"latency_p{percent}_ms", 1.0), (f"latency_full_p{percent}_ms", 2.1)):
                    values[name] = p50 * factor * longer
                    measured["intervals"][name] = [values[name] * 0.97, values[name] * 1.04]
            values |= {"load_time_ms": 12.0 + p50, "peak_rss_bytes": 61_000_000 + size}
            measured |= {"status": "measured", "runtime_versions": dict([VERSIONS[target]])}
        else:
            measured |= {"status": "not_measured", "reason": f"{UNAVAILABLE}, so nothing was timed"}
        self.write(f"benchmark/{key}", "benchmark", {"metrics.json": measured}, artifact=self.root / "artifact" / key)
        covered = {"metrics.json": coverage_of(target)}
        self.write(f"coverage/{key}", "coverage", covered, artifact=self.root / "artifact" / key)

    def _parity(self, key: str, noise: float) -> None:
        target, _, compression, *_ = TABLE[key]
        reference = self.root / "reference" / compression
        result: dict[str, Any] = {"altered": [], "runtime": None}
        result["weights"] = {"values": UNTOUCHED | {"weight_cosine_min": 1.0}}
        answers: dict[str, Any] = {}
        if target == "coreml-metal":
            result |= {"status": "not_measured", "reason": UNAVAILABLE}
        else:
            splits = {name: dict(np.load(reference / f"{name}.npz")) for name in parity.SPLITS}
            records = {}
            for name, split in splits.items():
                spread = noise if np.isfinite(noise) else 0.1
                logits = (split["logits"] + self.random.normal(0, spread, split["logits"].shape)).astype("f4")
                if name == "test" and not np.isfinite(noise):
                    logits[:7] = np.nan
                result[name], records[name] = measure(split, np.arange(len(logits)), [logits])
            result["test"] = parity.with_quality(
                quality, result["test"], splits["test"], records["test"], Logits(self.test["teacher"].astype("f4"))
            )
            answers = items.arrays(records)
            result |= {"runtime": RUNTIME_LABELS[target], "runtime_versions": dict([VERSIONS[target]])}
            result["numerics"] = executor(RUNTIME_LABELS[target]).note
            result |= {"form": {"values": UNMOVED}, "status": "measured"}
        files = {"metrics.json": result, "items.npz": answers}
        self.write(f"parity/{key}", "parity", files, artifact=self.root / "artifact" / key, reference=reference)


class Text(HTMLParser):
    """Collects tags, attributes and visible text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._skip = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._skip else data


def written(build: Path, chosen: dict[str, Variant] | None = None, name: str = "report") -> str:
    out = build / name
    report.run(report.Params(variants=chosen or variants()), build, build / "verdicts.json", out)
    return (out / "index.html").read_text(encoding="utf-8")


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    artifact.write_json(path, value)


def reseal(directory: Path) -> None:
    """Give an edited directory a manifest that fits, as if its stage had written it so."""
    content = {p.name: p.read_bytes() for p in directory.iterdir() if p.name != artifact.MANIFEST}
    old = artifact.manifest(directory)
    with artifact.writing(directory, stage=old["stage"], parents={}) as out:
        for name, data in content.items():
            (out / name).write_bytes(data)
    rewrite(directory / artifact.MANIFEST, lambda new: new.update(parents=old["parents"], params=old["params"]))


def fronts(html: str) -> set[str]:
    return {key for keys in re.findall(r'data-front="([^"]*)"', html) for key in keys.split()}
