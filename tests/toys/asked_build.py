"""A build of one variant with a real bundle: what `make clients` reads, small enough to write in every test."""

import json

import numpy as np

from stages import ask as clients
from stages.core import artifact
from stages.releasing import contents
from stages.schema.release import Release
from stages.schema.variant import Float, Variant
from tests.toys import bundle as toy

KEY = "onnx-cpu-fp32"
UTTERANCES = ("hello world", "lamp songs", "wake me up", "hello lamp wake", "song world up me")
VARIANT = {
    "compression": "none", "target": "onnx-cpu", "precision": "fp32", "required": True, "release_not_measured": False,
}  # fmt: skip
VERDICT = {
    "compression": "none", "dominated": "", "precision": "fp32", "reasons": [], "runtime": "onnxruntime-cpu",
    "target": "onnx-cpu", "thresholds": toy.thresholds(), "timing": "no timer", "verdict": "pass",
    "intervals": {"accuracy": [0.85, 0.92]}, "metrics": {"accuracy": 0.9, "n": 5, "size_bytes": 2_000},
    "notes": [],
}  # fmt: skip
BOUND = {"top1_agreement": 1.0, "probability_difference": 0.001}


def params(*required, **changed):
    """What `stages.ask` reads of params.yaml."""
    asked = {"utterances": 4, "required": list(required), "before_release": False, "exact": BOUND, "quantized": BOUND}
    return {
        "clients": {**asked, **changed},
        "precisions": {"fp32": {"kind": "float", "bits": 32}},
        "variants": {KEY: VARIANT},
    }


def write(root, forms=("hf",)):
    """Write `build/` below `root`, and params.yaml beside it."""
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    build, files = root / "build", toy.checkpoint()
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    ids = np.zeros((len(UTTERANCES), toy.LENGTH), np.int32)
    for row, text in zip(ids, UTTERANCES, strict=True):
        row[: len(tokenizer.encode(text).ids)] = tokenizer.encode(text).ids
    inputs = {"attention_mask": (ids != 0).astype(np.int32), "input_ids": ids}
    (logits,) = InferenceSession(toy.model()).run(["logits"], inputs)
    lines = "".join(_line(text) for text in UTTERANCES).encode()
    outputs = {
        f"artifact/{KEY}": {"model.onnx": toy.model(), "signature.json": toy.signature()},
        "compressed/none": files,
        "data": {"labels.json": json.dumps(toy.LABELS).encode(), "probe.jsonl": lines, "test.jsonl": lines},
        f"parity/{KEY}": {"outputs.npz": {"probe": logits}},
        "reference/none": {
            "summary.json": json.dumps(toy.summary()).encode(),
            **{name: {**inputs, "logits": logits} for name in ("coverage.npz", "probe.npz", "test.npz")},
        },
        "student": {"evaluation.json": b"{}"},
        "teacher": {},
    }
    for role, content in outputs.items():
        with artifact.writing(build / role, stage=role.split("/")[0], parents={}) as out:
            for name, value in content.items():
                artifact.write_arrays(out / name, value) if isinstance(value, dict) else (out / name).write_bytes(value)
    places = {role.split("/")[0]: build / role for role in outputs}
    with artifact.writing(build / "release" / KEY, stage="release", parents=places) as out:
        (out / "tokenizer").mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (out / "tokenizer" / name).write_bytes(files[name])
        for name in ("model.onnx", "signature.json"):
            (out / name).write_bytes(outputs[f"artifact/{KEY}"][name])
        (out / "labels.json").write_bytes(outputs["data"]["labels.json"])
        artifact.write_json(out / "verdict.json", VERDICT)
        artifact.write_arrays(out / "golden.npz", {**inputs, "artifact_logits": logits})
        settings = Release(forms=list(forms), golden="ids", required=True)
        contents.add(out, KEY, Variant(**VARIANT), Float(kind="float", bits=32), VERDICT, places, settings)
    artifact.write_json(root / "params.yaml", params())  # JSON is YAML
    return build


def ask(build, *names, required=(), **changed):
    """Run `stages.ask` on some clients; its exit code and what it recorded of the bundle."""
    artifact.write_json(build.parent / "params.yaml", params(*required, **changed))
    arguments = ["--build", str(build), "--params", str(build.parent / "params.yaml")]
    code = clients.main([*arguments, *(word for name in names for word in ("--client", name))])
    known = artifact.read_json(build / "clients.json")["bundles"] if (build / "clients.json").is_file() else {}
    return code, known.get(KEY, {"clients": {}})


def _line(text):
    # As `prepare` writes it: what JSON may hold unescaped stays as it is, U+2028 among it.
    return json.dumps({"label": "no", "text": text}, ensure_ascii=False) + "\n"
