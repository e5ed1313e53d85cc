"""What executes a package here, and what would on a Mac."""

from __future__ import annotations

import platform
import re
from importlib import util
from types import SimpleNamespace

import numpy as np
import pytest

from stages.core.errors import ArtifactError
from stages.targets.coreml_metal import (
    runtime,
)
from stages.tasks.base import FORWARD
from tests.targets.coreml_models import UTTERANCE
from tests.targets.running import sign


@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
def test_elsewhere_nothing_is_timed_and_the_reason_is_core_mls_absence(tmp_path):
    reason = f"Core ML runs on macOS only; this host is {platform.system()}"
    assert runtime.timing_unavailable() == runtime.coreml_unavailable() == reason
    assert runtime.available() is None
    with pytest.raises(ArtifactError, match="cannot read"):
        runtime.open_runtime(tmp_path, threads=1)


@pytest.mark.target
@pytest.mark.skipif(platform.system() == "Darwin", reason="Core ML runs here")
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("fp32", 1e-5),
        ("fp16", 1e-2),
        ("wi8", 0.05),
        ("wi4b32", 0.6),
        ("static", 0.1),
        ("pal6", 0.2),
        ("pal4", 0.6),
        ("pal4g16", 0.6),
        ("pal4s50", 1.0),
    ],
)
def test_elsewhere_the_reference_executor_answers_and_says_so(builds, name, tolerance):
    import torch

    opened = runtime.open_runtime(builds.artifact / name, threads=1)
    assert opened.label == "reference-interpreted"
    ids = np.array([UTTERANCE], np.int32)
    with torch.no_grad():
        expected = builds.model(torch.from_numpy(ids), attention_mask=torch.ones(1, 5)).logits.numpy()
    found = opened.run(FORWARD, {"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"]
    assert np.abs(found - expected).max() / np.abs(expected).max() < tolerance


@pytest.mark.parametrize(
    ("version", "bridge", "reason"),
    [
        ("12.6", True, r"need macOS 13; this host has 12\.6"),
        ("15.1", False, "without libcoremlpython"),
        ("15.1", True, None),
    ],
)
def test_on_a_mac_the_version_and_the_bridge_decide(version, bridge, reason, monkeypatch, tmp_path):
    (tmp_path / "libcoremlpython.cpython-311-darwin.so" if bridge else tmp_path / "other").touch()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), "arm64"))
    monkeypatch.setattr(util, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    found = runtime.coreml_unavailable()
    assert (found is None) if reason is None else re.search(reason, found)


def test_on_a_mac_core_ml_gets_the_smallest_length_that_holds_the_utterance(tmp_path, monkeypatch):
    fed = {}

    def predict(inputs, state=None):
        fed.update(inputs)
        return {"logits": np.ones((1, 4), np.float32)}

    sign(tmp_path, 8, pad=7)
    (tmp_path / runtime.PACKAGE).mkdir()
    monkeypatch.setattr(runtime, "coreml_unavailable", lambda: None)
    monkeypatch.setattr(runtime, "_load", lambda *_: SimpleNamespace(predict=predict, make_state=dict))
    opened = runtime.open_runtime(tmp_path, threads=1, units="CPU_AND_NE")
    three = np.ones((1, 3), np.int32)
    assert (opened.label, opened.new_state()) == ("coreml-cpu_and_ne", None)
    assert opened.run(FORWARD, {"input_ids": three, "attention_mask": three})["logits"].shape == (1, 4)
    assert fed["input_ids"].tolist() == [[1, 1, 1, 7, 7, 7, 7, 7]]
    assert fed["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
