"""Every family converts and lowers, and what the platform cannot is refused."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.errors import ConversionError, Unsupported
from stages.schema.task import Task
from stages.schema.variant import Dynamic, Mixed, Palettized, Static
from stages.targets import coreml_metal
from stages.targets.base import one_by_one
from stages.targets.coreml_metal import (
    quantize,
)
from stages.targets.coreml_metal.convert import check_interface, convert
from stages.targets.coreml_metal.lookup import looked_up
from stages.targets.coreml_metal.package import PACKAGE, constants
from stages.targets.coreml_metal.whole import strays
from stages.tasks.classify.interface import CALLS
from tests.targets.coreml_models import (
    FP16,
    MIXED,
    PAL4,
    PAL4S50,
    PRECISIONS,
    STATIC,
    TARGET,
    TASK,
    WI4,
    WI4B32,
    lowered,
)
from tests.toys.targets import coreml

IOS16, IOS17 = (coreml(minimum_deployment_target=name) for name in ("iOS16", "iOS17"))


@pytest.mark.target
@pytest.mark.parametrize("family", ["albert", "distilbert", "mobilebert"])
def test_every_family_converts_and_lowers(family, checkpoint, tmp_path):
    (tmp_path / "converted").mkdir()
    convert(checkpoint(family), TASK, TARGET, tmp_path / "converted")
    report = lowered(tmp_path / "converted", STATIC, tmp_path / "static")
    assert report["quantized"]["tensors"] >= 12
    assert report["activations"]["linear"]["quantized"] >= 12
    assert strays(tmp_path / "converted", tmp_path / "static") == []


@pytest.mark.target
def test_a_weight_that_coremltools_skips_is_an_error(checkpoint, tmp_path):
    (tmp_path / "converted").mkdir()
    convert(checkpoint("distilbert"), TASK, TARGET, tmp_path / "converted")
    # Of the width 48, which blocks of 32 do not divide, coremltools says so in its log and goes on.
    with pytest.raises(
        ConversionError, match=r"\d+ weights were compressed; left in float: '.*expected \d+ compressed"
    ):
        lowered(tmp_path / "converted", WI4B32, tmp_path / "out")


@pytest.mark.target
def test_a_bert_at_one_length_converts_beside_numpy_2_4(checkpoint, tmp_path):
    (tmp_path / "converted").mkdir()
    task = Task(name="classify", max_length=16, sequence_lengths=[16])
    convert(checkpoint("bert"), task, IOS17, tmp_path / "converted")
    check_interface(tmp_path / "converted" / PACKAGE, one_by_one(CALLS[0]), [16])
    lowered(tmp_path / "converted", STATIC, tmp_path / "static", IOS17)
    assert "constexpr_affine_dequantize" in {item.op for item in constants(tmp_path / "static" / PACKAGE)}
    lowered(tmp_path / "converted", PAL4, tmp_path / "pal4", IOS17)
    assert [strays(tmp_path / "converted", tmp_path / name) for name in ("static", "pal4")] == [[], []]
    ids = np.arange(49, dtype=np.int32)
    assert looked_up(tmp_path / "converted", ids).shape == (49, 32)
    with pytest.raises(Unsupported, match="'weight_bits': 4.* at iOS17; expected minimum_deployment_target iOS18"):
        lowered(tmp_path / "converted", WI4, tmp_path / "wi4", IOS17)
    with pytest.raises(Unsupported, match="'static'.* at iOS16; expected minimum_deployment_target iOS17"):
        lowered(tmp_path / "converted", STATIC, tmp_path / "ios16", IOS16)


def test_several_lengths_need_ios18(tmp_path):
    with pytest.raises(Unsupported, match=r"cannot serve lengths \[8, 16\] at iOS17"):
        convert(tmp_path, TASK, IOS17, tmp_path)


@pytest.mark.parametrize(
    ("precision", "supported"),
    [
        *((precision, True) for precision in PRECISIONS.values()),
        (Dynamic(kind="dynamic", weight_bits=8, granularity="channel"), False),
        (Static(kind="static", weight_bits=8, activation_bits=16, granularity="tensor"), False),
        (Palettized(kind="palettized", weight_bits=4, granularity="channels_16", sparsity=0.5), False),
        (MIXED, True),
        (Mixed(kind="mixed", low=PAL4S50, high=FP16, among="all", kl_budget=0.1, utterances=1), False),
    ],
)
def test_supports_says_what_quantize_does(precision, supported, tmp_path):
    assert coreml_metal.supports(precision) is supported
    if not supported:
        with pytest.raises(Unsupported, match="cannot lower to .* expected float 16"):
            quantize.quantize(tmp_path, precision, {}, TARGET, tmp_path)
