"""Every weight is compressed as asked, and what was not is reported or an error."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from stages.core.errors import ArtifactError, ConversionError
from stages.measure.structure import compare
from stages.targets.coreml_metal import (
    activations,
    lowering,
    package,
    quantize,
    runtime,
    toolchain,
)
from stages.targets.coreml_metal.package import PACKAGE, constants
from stages.targets.coreml_metal.structure import read
from stages.targets.coreml_metal.weights import weights
from stages.targets.coreml_metal.whole import strays
from stages.tasks.base import FORWARD
from tests.targets.coreml_models import (
    CALIBRATION,
    FP16,
    MIXED,
    PAL4,
    PAL4S50,
    PAL6,
    STATIC,
    TRUE_LENGTHS,
    WI4,
    WI4B32,
    WI8,
    dense,
    lowered,
)
from tests.targets.faults_coreml import overwrite

OPS = dict.fromkeys(("wi8", "wi4b32", "static"), "constexpr_blockwise_shift_scale")
OPS |= dict.fromkeys(("pal2", "pal4", "pal6", "pal4g16"), "constexpr_lut_to_dense")
OPS |= {"pal4s50": "constexpr_sparse_to_dense"}


@pytest.fixture
def damaged(builds, tmp_path):
    """A converted package with one value of its largest weight replaced."""

    def replace(value):
        out = tmp_path / "damaged"
        shutil.copytree(builds.converted, out)
        weight = max((item for item in constants(out / PACKAGE) if item.is_weight), key=lambda item: item.stored_bytes)
        overwrite(out / PACKAGE, weight.blobs[0], np.float32(value).tobytes())
        return out

    return replace


@pytest.mark.target
@pytest.mark.parametrize("name", OPS)
def test_every_weight_is_compressed_in_the_way_asked_for(builds, name):
    weights = [constant for constant in constants(builds.converted / PACKAGE) if constant.is_weight]
    found = constants(builds.artifact / name / PACKAGE)
    compressed = [constant for constant in found if constant.op == OPS[name]]
    assert len(compressed) == len(weights) == 17
    assert not [constant for constant in found if constant.is_weight and constant.op == "const"]
    assert {constant.dtype for constant in found if constant.op == "const" and constant.blobs} <= {
        "FLOAT16",
        "INT32",
        "UINT16",
    }


@pytest.mark.target
def test_compressed_weights_expand_to_the_sources(builds):
    source, linear, palette = (dense(builds.first / name) for name in ("converted", "artifact/wi8", "artifact/pal4"))
    blocks = dense(builds.artifact / "wi4b32")
    names = [name for name, value in source.items() if value.dtype == np.float32]
    assert len(names) == 17
    for name in names:
        weight = source[name]
        half_step = np.abs(weight).max(axis=1, keepdims=True) / 254
        # Scale and result are fp16, each rounded by up to 2^-11 of the weight: an eighth of half a step.
        assert (np.abs(linear[name] - weight) <= 1.3 * half_step).all(), name
        half_step = np.abs(weight.reshape(-1, 32)).max(axis=1, keepdims=True) / 14
        assert (np.abs(blocks[name] - weight).reshape(-1, 32) <= 1.02 * half_step).all(), name
        table = np.unique(palette[name])
        nearest = np.abs(weight[..., None] - table.astype(np.float32)).min(axis=-1)
        assert len(table) <= 16
        # Rounded to fp16 before clustering: a value between two centres may fall to either.
        np.testing.assert_allclose(np.abs(palette[name] - weight), nearest, atol=2e-3)
        assert np.abs(palette[name] - weight).mean() < np.ptp(weight) / 32


@pytest.mark.target
def test_palettes_are_never_scaled_per_channel():
    toolchain.load()
    config = lowering._palette(PAL4, 32)
    assert config.enable_per_channel_scale is False
    assert config.granularity.name == "PER_TENSOR"


@pytest.mark.target
def test_clusters_are_optimal():
    toolchain.load()
    weight = np.array([[0.0, 0.1, 5.0], [5.1, 9.0, 9.1]], np.float16)
    table, indices = lowering._clusters(2, sparse=False)(np.concatenate([weight, weight + 20]))
    assert table.shape == (4,)
    assert [list(indices[:6]), list(indices[6:])] == [[0, 0, 1, 1, 1, 1], [2, 2, 3, 3, 3, 3]]


@pytest.mark.target
def test_zeros_of_a_sparse_weight_get_no_cluster():
    toolchain.load()
    table, indices = lowering._clusters(2, sparse=True)(np.array([[0, 0, 1, 2], [3, 4, 0, 0]], np.float16))
    assert sorted(table) == [1, 2, 3, 4]
    assert list(table[indices[2:6]]) == [1, 2, 3, 4]


@pytest.mark.parametrize(("channels", "size"), [(64, 16), (150, 25), (2, 2), (16, 16), (34, 17), (37, 37)])
def test_groups_divide_the_channels(channels, size):
    assert lowering.group_size(channels) == size


@pytest.mark.target
def test_a_mixture_stores_every_weight_as_chosen_and_says_why(builds, tmp_path):
    report = lowered(builds.converted, MIXED, tmp_path / "mixed")
    mixture = report["mixture"]
    chosen = {weight["name"] for weight in mixture["weights"] if weight["precision"] == "low"}
    assert sorted(chosen) == mixture["low"]
    assert 0 < len(chosen) < len(mixture["weights"]) == 17
    found = {item.name: item.op for item in constants(tmp_path / "mixed" / PACKAGE) if item.op != "const"}
    assert {lowering.source_name(name) for name, op in found.items() if op == OPS["pal4"]} == chosen
    assert list(found.values()).count(OPS["wi8"]) == 17 - len(chosen)
    assert report["quantized"]["tensors"] == report["quantized"]["tensors_asked"] == 17
    compared = compare(read(builds.converted), read(tmp_path / "mixed"))
    assert (compared.differences, compared.beyond) == ([], 0)
    assert strays(builds.converted, tmp_path / "mixed") == []
    weights_asked = [constant for constant in constants(builds.converted / PACKAGE) if constant.is_weight]
    with pytest.raises(ConversionError, match=r"is stored in \d+ bytes; expected \d+: 8 bits"):
        quantize.check(constants(tmp_path / "mixed" / PACKAGE), MIXED, weights_asked)


@pytest.mark.target
def test_tables_alone_are_lowered_where_that_is_asked(builds, tmp_path):
    asked = MIXED.model_copy(update={"among": "tables", "kl_budget": 1.0})
    report = lowered(builds.converted, asked, tmp_path / "mixed")
    assert all("embeddings" in weight["name"] for weight in report["mixture"]["weights"])
    found = [item.op for item in constants(tmp_path / "mixed" / PACKAGE) if item.op != "const"]
    assert found.count(OPS["pal4"]) == len(report["mixture"]["low"]) == 2  # two rows of token types save no bytes


@pytest.mark.target
def test_every_group_of_channels_has_a_table_of_its_own(builds):
    values = weights(builds.artifact / "pal4g16")
    words = next(value for name, value in values.items() if "word_embeddings" in name)
    assert words.shape == (49, 32)
    assert len(np.unique(words)) <= 16  # 49 is divided by no number from 16 on
    layer = next(value for name, value in values.items() if "intermediate" in name)
    assert [len(np.unique(rows)) for rows in np.split(layer, 4)] == [16] * 4
    assert len(np.unique(layer)) > 32


@pytest.mark.target
def test_half_of_a_sparse_weight_is_zero_and_the_largest_half_is_kept(builds):
    source, values = weights(builds.converted), weights(builds.artifact / "pal4s50")
    for name, value in values.items():
        before = next(one for key, one in source.items() if name.startswith(key))
        assert 0.45 < (value == 0).mean() <= 0.56, name
        assert np.abs(before[value == 0]).max() <= np.abs(before[value != 0]).min(), name
        assert len(np.unique(value)) <= 17, name


@pytest.mark.target
def test_the_report_counts_what_was_compressed_and_what_was_left(builds):
    report = builds.reports["wi8"]
    assert report["asked"] == {"kind": "weight_only", "weight_bits": 8, "granularity": "channel"}
    assert report["quantized"]["tensors"] == report["quantized"]["tensors_asked"] == 17
    assert 0.5 < report["quantized"]["bytes"] / report["quantized"]["bytes_as_float"] < 0.6
    assert set(report["left_float"]) == {
        "fewer than ten values, kept in the program itself",
        "one axis: a bias or a norm",
    }


@pytest.mark.target
def test_the_report_of_a_static_artifact_counts_layers_and_calibration(builds):
    report = builds.reports["static"]
    assert report["quantized"]["tensors"] == report["quantized"]["tensors_asked"] == 17
    assert report["activations"] == {
        "calibration_utterances": 5,
        "left_float": {"matmul": 4},
        "linear": {"asked": 14, "quantized": 14},
        "pairs": 23,  # 14 outputs and 9 inputs: a layer's query, key and value share one, the classifier's is an output
    }


@pytest.mark.target
def test_a_static_scale_spans_what_calibration_saw_and_no_more(builds):
    opened = runtime.open_runtime(builds.artifact / "fp16", threads=1)
    rows = [
        {name: array[i : i + 1, :n] for name, array in CALIBRATION.items()} for i, n in enumerate(TRUE_LENGTHS[:, 0])
    ]
    largest = max(np.abs(opened.run(FORWARD, row)["logits"]).max() for row in rows)
    found = package.operations(package.read_program(builds.artifact / "static" / PACKAGE))
    last = [operation for operation in found if operation.type == "quantize"][-1]
    scale = next(item for item in found if item.outputs[0].name == last.inputs["scale"].arguments[0].name)
    stored = np.frombuffer(scale.attributes["val"].immediateValue.tensor.bytes.values, np.float16)
    np.testing.assert_allclose(stored, largest / 127, rtol=2e-3)


@pytest.mark.target
def test_a_layer_left_in_float_is_an_error(builds):
    with pytest.raises(ConversionError, match=r"0 linear layers read integers; left in float: 'linear_0.* 14 lowered"):
        activations.check(builds.converted, builds.artifact / "wi8" / PACKAGE)


@pytest.mark.target
def test_an_activation_that_overflows_16_bits_is_an_error(damaged, tmp_path):
    with pytest.raises(ArtifactError, match="inf.*expected finite ones to calibrate with"):
        lowered(damaged(6e4), STATIC, tmp_path / "out")


@pytest.mark.target
def test_weights_at_other_bits_or_blocks_than_asked_for_are_an_error(builds, tmp_path):
    weights = [constant for constant in constants(builds.converted / PACKAGE) if constant.is_weight]
    lowered(builds.converted, WI4, tmp_path / "wi4")
    found = {name: constants(builds.artifact / name / PACKAGE) for name in ("wi8", "pal4")}
    with pytest.raises(ConversionError, match=r"is stored in \d+ bytes; expected \d+: 4 bits"):
        quantize.check(found["wi8"], WI4, weights)
    with pytest.raises(ConversionError, match=r"is stored in \d+ bytes; expected \d+ at 0\.5 sparse"):
        quantize.check(found["pal4"], PAL4S50, weights)
    with pytest.raises(ConversionError, match=r"is stored in \d+ bytes; expected \d+: 6 bits"):
        quantize.check(found["pal4"], PAL6, weights)
    with pytest.raises(ConversionError, match=r"has \d+ scales; expected \d+: one per 32 values"):
        quantize.check(constants(tmp_path / "wi4" / PACKAGE), WI4B32, weights)


@pytest.mark.target
def test_an_infinite_weight_is_an_error(damaged, tmp_path):
    source = damaged(np.inf)
    with pytest.raises(ConversionError, match="left in float"):
        lowered(source, WI8, tmp_path / "wi8")
    with pytest.raises(ConversionError, match="has NaN or infinite values"):
        lowered(source, FP16, tmp_path / "fp16")


@pytest.mark.target
def test_a_weight_beyond_16_bits_is_an_error(damaged, tmp_path):
    with pytest.raises(ConversionError, match="was left in 32 bits"):
        lowered(damaged(1e5), FP16, tmp_path / "out")


def test_a_program_without_weights_is_an_error():
    with pytest.raises(ConversionError, match="no weights to lower"):
        quantize.check([], WI8, [])
