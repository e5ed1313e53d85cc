"""The report says what the build holds: nothing of removed variants, no front for what failed, no bare latency."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import gate, parity, report
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.core.params import Section
from stages.core.statistics import paired_difference, proportion_interval
from stages.reporting import evidence, gaps, page, pareto, strips, svg, tradeoff, wording
from stages.schema.gate import Gate
from stages.schema.variant import Variant

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
HOST = {"cores": 2, "cpu_flags_sha256": "ab" * 32, "cpu_isa": "avx2", "cpu_model": "Example CPU", "machine": "x86_64"}

BOUNDS = [
    {"metric": "non_finite_count", "unit": "count", "at_most": 0.0, "min_n": 30},
    {"metric": "top1_agreement", "unit": "fraction", "at_least": 0.9, "min_n": 30},
]
GATE = Gate.model_validate(
    {
        "interval_below_n": 100,
        "reference": [{"metric": "accuracy", "unit": "fraction", "at_least": 0.5, "min_n": 30}],
        "precisions": {row[1]: BOUNDS for row in TABLE.values()},
    }
)


def variants(table: dict[str, Any] = TABLE) -> dict[str, Variant]:
    return {
        key: Variant(
            target=row[0], precision=row[1], compression=row[2], required=row[2] == "none", release_not_measured=False
        )
        for key, row in table.items()
    }


class Source(Section):
    data: dict[str, str]


class Distilled(Section):
    student: dict[str, str]


class Compressed(Section):
    compression: str


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
        settings = gate.Params(gate=GATE, variants=chosen or variants())
        gate.run(settings, self.root, self.root / "verdicts.json", self.root / "metrics.json")

    def _checkpoints(self) -> None:
        baseline = {"accuracy": 0.71, "accuracy_interval": [0.66, 0.75], "method": "TF-IDF", "n": TEST}
        labels = [f"label{index}" for index in range(LABELS)]
        files: dict[str, Any] = {"labels.json": labels, "summary.json": {"baseline": baseline}}
        self.write("data", "prepare", files, Source(data={"kind": "embedded"}))
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
        self.write(f"compressed/{name}", "compress", files, Compressed(compression=name), student=self.root / "student")
        logits = {
            "probe": self.random.normal(0, 3, (PROBE, LABELS)),
            "test": self.test["student"] + self.random.normal(0, noise, self.test["student"].shape),
        }
        labels = {"probe": np.full(PROBE, -1), "test": self.labels}
        splits = {
            f"{split}.npz": {"logits": values.astype(np.float32), "labels": labels[split]}
            for split, values in logits.items()
        }
        right = int((logits["test"].argmax(1) == self.labels).sum())
        summary = {"accuracy": right / TEST, "accuracy_interval": proportion_interval(right, TEST), "n": TEST}
        splits["summary.json"] = summary
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
            for name, factor in (("latency_p50_ms", 1.0), ("latency_p90_ms", 1.2), ("latency_full_p50_ms", 2.1)):
                values[name] = p50 * factor
                measured["intervals"][name] = [p50 * factor * 0.97, p50 * factor * 1.04]
            values |= {"load_time_ms": 12.0 + p50, "peak_rss_bytes": 61_000_000 + size}
            measured["status"] = "measured"
        else:
            measured |= {"status": "not_measured", "reason": f"{UNAVAILABLE}, so nothing was timed"}
        self.write(f"benchmark/{key}", "benchmark", {"metrics.json": measured}, artifact=self.root / "artifact" / key)

    def _parity(self, key: str, noise: float) -> None:
        target, _, compression, *_ = TABLE[key]
        reference = self.root / "reference" / compression
        result: dict[str, Any] = {"altered": [], "runtime": None}
        outputs: dict[str, Any] = {}
        if target == "coreml-metal":
            result |= {"status": "not_measured", "reason": UNAVAILABLE}
        else:
            splits = {name: dict(np.load(reference / f"{name}.npz")) for name in ("probe", "test")}
            for name, split in splits.items():
                spread = noise if np.isfinite(noise) else 0.1
                outputs[name] = (split["logits"] + self.random.normal(0, spread, split["logits"].shape)).astype("f4")
            if not np.isfinite(noise):
                outputs["test"][:7] = np.nan
            result |= parity.measure(splits["probe"], splits["test"], self.test["teacher"].astype("f4"), outputs)
            result |= {"runtime": RUNTIME_LABELS[target], "status": "measured"}
        files = {"metrics.json": result, "outputs.npz": outputs}
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


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Build(tmp_path_factory.mktemp("report") / "build").root


@pytest.fixture
def build(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "build"))


def written(build: Path, chosen: dict[str, Variant] | None = None, name: str = "report") -> str:
    out = build / name
    report.run(report.Params(variants=chosen or variants()), build, build / "verdicts.json", out)
    return (out / "index.html").read_text(encoding="utf-8")


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
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


def test_same_evidence_gives_same_bytes_in_two_processes(build: Path) -> None:
    written(build)
    params = build / "params.yaml"
    params.write_text(json.dumps({"variants": {key: value.model_dump() for key, value in variants().items()}}))
    command = [sys.executable, "-m", "stages.report", "--params", str(params), "--build", str(build)]
    command += ["--verdicts", str(build / "verdicts.json"), "--out", str(build / "again")]
    subprocess.run(command, check=True, env={"PATH": "", "PYTHONHASHSEED": "7"})
    for name in ("index.html", "pareto.json", "gaps.json", "manifest.json"):
        assert (build / "report" / name).read_bytes() == (build / "again" / name).read_bytes(), name


def test_the_stage_imports_no_heavy_library() -> None:
    code = (
        "import sys, stages.report; "
        "heavy = {'torch', 'transformers', 'coremltools', 'ai_edge_litert', 'litert_torch', 'onnxruntime', 'mlflow', "
        "'matplotlib', 'sklearn', 'scipy'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_variant_is_named_with_its_verdict_in_words(build: Path) -> None:
    text = Text(written(build)).text
    assert "4 of 9 variants pass" in text
    for key in TABLE:
        assert key in text
    for words in ("✓ pass", "✕ fail", "○ not measured"):
        assert words in text


def test_reasons_stand_beside_everything_that_is_not_a_pass(build: Path) -> None:
    text = Text(written(build)).text
    judged = artifact.read_json(build / "verdicts.json")["variants"]
    reasons = [reason for entry in judged.values() if entry["verdict"] != "pass" for reason in entry["reasons"]]
    assert len(reasons) >= 5
    assert all(reason in text for reason in reasons)
    assert f"{UNAVAILABLE}, so nothing was timed" in text


def test_user_text_is_escaped_wherever_it_appears(build: Path) -> None:
    def inject(value: Any) -> None:
        for entry in value["variants"].values():
            entry["runtime"] = entry["timing"] = HOSTILE
            entry["reasons"] = [HOSTILE]

    rewrite(build / "verdicts.json", inject)
    rewrite(build / "student/config.json", lambda value: value.update(model_type=HOSTILE))
    rewrite(build / "data/summary.json", lambda value: value["baseline"].update(method=HOSTILE))
    rewrite(build / "benchmark/onnx-cpu-fp32/metrics.json", lambda value: value["host"].update({HOSTILE: HOSTILE}))
    for name in ("student", "data", "benchmark/onnx-cpu-fp32"):
        reseal(build / name)
    html = written(build)
    assert HOSTILE not in html
    assert HOSTILE in Text(html).text
    assert html.count("<script") == 1


def test_hostile_variant_keys_are_escaped_in_table_charts_and_lineage(build: Path) -> None:
    old, new = "tflite-nnapi-fp32", '"><b>&'
    for stage in ("artifact", "parity", "benchmark"):
        shutil.move(build / stage / old, build / stage / new)
    chosen = {new if key == old else key: value for key, value in variants().items()}
    rewrite(build / "verdicts.json", lambda value: value["variants"].update({new: value["variants"].pop(old)}))
    html = written(build, chosen)
    assert "<b>&" not in html
    assert html.count("&gt;&lt;b&gt;&amp;") >= 6


def test_a_failing_variant_is_never_on_a_front_however_fast(build: Path) -> None:
    assert "tflite-nnapi-static_wi8_ai8" not in fronts(written(build))

    def acquit(value: Any) -> None:
        value["variants"]["tflite-nnapi-static_wi8_ai8"].update(verdict="pass", reasons=[])

    rewrite(build / "verdicts.json", acquit)
    # It is the fastest and the smallest of its platform: only its verdict kept it off.
    assert "tflite-nnapi-static_wi8_ai8" in fronts(written(build))


def test_fronts_hold_only_what_nothing_of_the_platform_beats(build: Path) -> None:
    found = evidence.load(variants(), build, build / "verdicts.json")
    lines = [line for line in found.lines if line.target == "onnx-cpu"]
    assert [line.key for line in pareto.front(lines, "size_bytes")] == ["onnx-cpu-dynamic_wi8_afp32"]
    lines[0].values["accuracy"] = 0.99
    assert [line.key for line in pareto.front(lines, "size_bytes")] == ["onnx-cpu-dynamic_wi8_afp32", "onnx-cpu-fp32"]


def test_fastest_and_smallest_are_chosen_among_passing_variants(build: Path) -> None:
    lines = evidence.load(variants(), build, build / "verdicts.json").lines
    for metric in ("latency_p50_ms", "size_bytes"):
        cheapest = min((line for line in lines if metric in line.values), key=lambda line: line.values[metric])
        assert cheapest.verdict != "pass"
        chosen = page.best(lines, metric)
        assert chosen is not None
        assert chosen.key == "onnx-cpu-dynamic_wi8_afp32"


def test_a_build_without_a_pass_still_gets_a_page(build: Path) -> None:
    rewrite(build / "verdicts.json", lambda value: [e.update(verdict="fail") for e in value["variants"].values()])
    html = written(build)
    assert "no variant passes" in html
    assert not fronts(html)


def test_leftovers_of_removed_variants_never_appear(build: Path) -> None:
    chosen = {key: value for key, value in variants().items() if key != "onnx-cpu-pruned"}
    html = written(build, chosen)
    # Its directories and its verdict still lie in the build.
    assert (build / "parity/onnx-cpu-pruned").is_dir()
    assert "pruned" not in html
    for name in ("pareto.json", "gaps.json"):
        assert "pruned" not in (build / "report" / name).read_text()
    assert "pruned" in written(build)


def test_nothing_is_requested_from_outside_the_page(build: Path) -> None:
    html = written(build)
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in Text(html).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "style", "onclick", "onload"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src &#39;none&#39;" in html


def test_the_policy_names_exactly_the_inline_style_and_script(build: Path) -> None:
    html = written(build)
    for tag in ("style", "script"):
        block = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert block
        hashed = base64.b64encode(hashlib.sha256(block[1].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{hashed}&#39;" in html


def test_no_latency_stands_without_a_verdict_beside_it(build: Path) -> None:
    html = written(build)
    judged = artifact.read_json(build / "verdicts.json")["variants"]
    table = html[html.index('id="variants"') : html.index('id="reasons"')]
    outside = html.replace(table, "")
    rows = re.findall(r"<tr class.*?</tr>", table, re.DOTALL)
    assert len(rows) == len(TABLE)
    for key, row in zip((line.key for line in evidence.load(variants(), build, build / "verdicts.json").lines), rows,
                        strict=True):  # fmt: skip
        words = judged[key]["verdict"].replace("_", " ")
        # The verdict's cell comes right before the first latency's.
        assert re.search(
            rf'<span class="verdict {judged[key]["verdict"]}">.*{words}</span></td>\n<td class="number', row
        )
    fastest = re.search(r"Fastest that passes.*?</div>", outside, re.DOTALL)
    assert fastest
    assert "✓</span> pass" in fastest[0]
    for entry in judged.values():
        shown = wording.magnitude(entry["metrics"].get("latency_p50_ms", 1e9))
        # Marks of the plot carry their verdict too; nothing else quotes a latency.
        for title in re.findall(rf"<title>[^<]*, {re.escape(shown)};[^<]*</title>", outside):
            assert title.endswith(f"; {entry['verdict'].replace('_', ' ')}</title>")


def test_unmeasured_latency_says_so_and_is_not_drawn(build: Path) -> None:
    html = written(build)
    rows = json.loads((build / "report/pareto.json").read_text())
    untimed = [row for row in rows if row["latency_p50_ms"] is None]
    assert [row["verdict"] for row in untimed] == ["not_measured"] * 3
    assert html.count("not<br>measured</td>") == 2 * len(untimed)
    assert "Not on this plot, latency or accuracy not measured: coreml-metal-fp16" in html


def test_pareto_rows_hold_what_dvc_plots_read(build: Path) -> None:
    written(build)
    rows = json.loads((build / "report/pareto.json").read_text())
    assert {row["variant"] for row in rows} == set(TABLE)
    columns = {"variant", "target", "precision", "compression", "latency_p50_ms", "size_bytes", "accuracy",
               "top1_agreement", "verdict"}  # fmt: skip
    assert all(set(row) == columns for row in rows)


def test_gaps_are_paired_and_come_from_the_logits(build: Path) -> None:
    found = {(gap.kind, gap.name): gap for gap in evidence.load(variants(), build, build / "verdicts.json").gaps}
    labels = np.load(build / "reference/none/test.npz")["labels"]
    right = [np.load(build / name / "test_logits.npy").argmax(1) == labels for name in ("teacher", "student")]
    assert found["distillation", "student"].lost == paired_difference(*right)
    pruned = found["compression", "pruned"]
    assert pruned.lost is not None
    assert pruned.lost[0] > 0.02
    nothing = found["compression", "none"]
    assert nothing.lost is not None
    assert nothing.lost[0] == 0
    values = artifact.read_json(build / "verdicts.json")["variants"]["onnx-cpu-dynamic_wi8_afp32"]["metrics"]
    conversion = found["conversion", "onnx-cpu-dynamic_wi8_afp32"]
    assert conversion.lost is not None
    assert conversion.lost[0] == values["accuracy_drop_to_reference"]
    assert conversion.n == TEST


def test_nan_has_no_gap_no_distribution_and_no_number(build: Path) -> None:
    html = written(build)
    assert "42 logits are NaN or infinite" in html
    assert "7 of 440 utterances give NaN or infinity" in html
    row = next(row for row in json.loads((build / "report/gaps.json").read_text()) if row["name"] == "onnx-cpu-pruned")
    assert row["accuracy_after"] is None
    assert row["accuracy_drop"] is None
    assert not re.search(r'"(nan|inf)"|[ >,](nan|inf)[ <,]', html)


def test_unlabelled_utterances_are_left_out_of_gaps() -> None:
    labels = np.array([0, 1, -1, -1])
    before, after = np.eye(2, dtype="f4")[[0, 1, 0, 0]], np.eye(2, dtype="f4")[[0, 0, 0, 0]]
    gap = gaps.measure_gap("conversion", "v", labels, before, after)
    assert (gap.n, gap.before, gap.after) == (2, 1.0, 0.5)


def test_a_broken_link_in_the_lineage_is_said_loudly(build: Path) -> None:
    assert "and hold" in written(build)
    rewrite(build / "student" / artifact.MANIFEST, lambda value: value["params"].update(edited=True))
    html = written(build)
    assert "<b>Broken:</b> the manifest of compressed none does not name the student student" in html
    assert "and hold" not in html


def test_lineage_shows_short_digests_and_whole_ones_on_hover(build: Path) -> None:
    html = written(build)
    digest = artifact.digest(build / "artifact/onnx-cpu-fp32")
    assert f">{digest[:12]}</text>" in html
    assert f"sha256 of its manifest: {digest}</title>" in html


def test_benchmarks_of_two_hosts_are_not_shown_as_one(build: Path) -> None:
    assert "Latencies of different hosts do not compare" not in written(build)
    rewrite(build / "benchmark/onnx-cpu-fp32/metrics.json", lambda value: value["host"].update(cpu_model="Another CPU"))
    reseal(build / "benchmark/onnx-cpu-fp32")
    text = Text(written(build)).text
    assert "Another CPU" in text
    assert "Latencies of different hosts do not compare" in text


def test_a_busy_host_is_said(build: Path) -> None:
    warning = "The host was busier than it has cores"
    assert warning not in written(build)
    rewrite(build / "benchmark/onnx-cpu-fp32/metrics.json", lambda value: value.update(load_average=[9.5, 1, 1]))
    reseal(build / "benchmark/onnx-cpu-fp32")
    assert warning in written(build)


def test_every_runtime_label_of_the_targets_is_explained() -> None:
    targets = Path(__file__).parents[1] / "stages/targets"
    source = "".join(path.read_text() for path in targets.rglob("*.py"))
    labels = set(re.findall(r'^\s*(?:self\.)?label = f?"([^"]+)"', source, re.MULTILINE))
    assert len(labels) >= 3
    unexplained = wording.runtime_meaning("of nobody")
    assert all(wording.runtime_meaning(label) != unexplained for label in labels)


def test_a_teacher_passed_through_is_not_called_a_student_that_learned(build: Path) -> None:
    assert "that learned from a 6-layer bert teacher" in Text(written(build)).text
    rewrite(build / "student" / artifact.MANIFEST, lambda value: value["params"].update(student={"kind": "none"}))
    text = Text(written(build)).text
    assert "learned" not in text
    assert "not distilled" in text


def test_interpreted_core_ml_is_said_not_to_be_apples_runtime(build: Path) -> None:
    def interpret(value: Any) -> None:
        value["variants"]["coreml-metal-fp16"].update(runtime="reference-interpreted", verdict="pass")

    assert "artifact interpreted" not in written(build)
    rewrite(build / "verdicts.json", interpret)
    text = Text(written(build)).text
    assert "1 of the passes: artifact interpreted, not run by the platform" in text
    assert "It checks the artifact" in text
    assert "not Apple's runtime" in text


def test_a_student_no_better_than_the_baseline_is_said(build: Path) -> None:
    warning = "not clearly above this baseline"
    assert warning not in written(build)
    rewrite(build / "data/summary.json", lambda value: value["baseline"].update(accuracy_interval=[0.9, 0.99]))
    reseal(build / "data")
    assert warning in written(build)


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ("verdicts.json", "cannot read .*verdicts.json"),
        ("parity/onnx-cpu-fp32", "onnx-cpu-fp32' has no manifest.json; next: run `dvc repro`"),
        ("benchmark/onnx-cpu-fp32", "onnx-cpu-fp32' has no manifest.json"),
        ("reference/none", "none' has no manifest.json"),
        ("converted/none-onnx-cpu", "none-onnx-cpu' has no manifest.json"),
        ("teacher", "teacher' has no manifest.json"),
        ("student/test_logits.npy", "'test_logits.npy' is missing"),
        ("data/labels.json", "'labels.json' is missing"),
    ],
)
def test_a_missing_piece_is_a_clear_error_and_writes_nothing(build: Path, missing: str, match: str) -> None:
    path = build / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ArtifactError, match=match):
        written(build)
    assert not (build / "report").exists()


def test_a_variant_that_was_not_judged_is_an_error(build: Path) -> None:
    rewrite(build / "verdicts.json", lambda value: value["variants"].pop("onnx-cpu-fp32"))
    with pytest.raises(ArtifactError, match="does not judge variant 'onnx-cpu-fp32'.*dvc repro gate"):
        written(build)


def test_verdicts_of_another_parity_run_are_refused(build: Path) -> None:
    def older(value: Any) -> None:
        value["variants"]["onnx-cpu-fp32"]["metrics"]["top1_agreement"] = 0.5

    rewrite(build / "verdicts.json", older)
    with pytest.raises(ArtifactError, match="'onnx-cpu-fp32' was judged with top1_agreement 0.5"):
        written(build)


def test_altered_evidence_is_refused(build: Path) -> None:
    rewrite(build / "parity/onnx-cpu-fp32/metrics.json", lambda value: value.update(status="measured "))
    with pytest.raises(ArtifactError, match="is not what its stage wrote"):
        written(build)


def test_references_of_different_test_splits_are_refused(build: Path) -> None:
    with np.load(build / "reference/pruned/test.npz") as stored:
        arrays = dict(stored)
    arrays["labels"] = arrays["labels"][::-1]
    np.savez(build / "reference/pruned/test.npz", **arrays)
    reseal(build / "reference/pruned")
    with pytest.raises(ArtifactError, match="reference 'pruned' has another test split"):
        written(build)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.012"), (0.47, "0.470"), (1.3, "1.30"), (61.97, "62.0"), (1234.4, "1,234")],
)
def test_magnitudes_have_about_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert wording.magnitude(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00"), (-1e-9, "0.00"), (-0.0122, "−1.22"), (0.395, "+39.50")])
def test_differences_are_signed_points_and_zero_has_no_sign(value: float, text: str) -> None:
    assert wording.points(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.27, "0.27"), (3.4e-7, "3.4×10⁻⁷"), (2e5, "2.0×10⁵")])
def test_errors_of_any_magnitude_are_legible(value: float, text: str) -> None:
    assert wording.scientific(value) == text


def test_errors_below_the_axis_are_counted_in_its_first_bar() -> None:
    sample = np.array([0.0, 0.0, 2e-3, 5e-3])
    axis = strips.error_axis([sample])
    drawing = strips.histogram(sample, axis, 0, "errors")
    assert drawing.count("<rect") == 3


def test_scales_hold_values_outside_at_their_edge() -> None:
    assert svg.Linear(0, 10, 0, 100)(20) == 100
    assert svg.Log(1, 100, 0, 100)(0.001) == 0
    assert svg.Linear(89, 98, 0, 1).ticks(5) == [90, 92, 94, 96, 98]
    assert svg.Log(0.9, 12, 0, 1).ticks() == [1, 2, 5, 10]


def test_names_on_a_crowded_plot_do_not_cover_each_other() -> None:
    taken: list[tradeoff.Box] = []
    for _ in range(8):
        box = tradeoff._place(200.0, 150.0, 90.0, taken)
        assert not any(tradeoff._overlap(box, other) for other in taken)
        taken.append(box)
