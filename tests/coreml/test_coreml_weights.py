import numpy as np
import pytest

from stages.coreml import dtypes, open_program
from stages.coreml.weights import compare, cosine
from tests.toys.mil import Builder

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(8, 16)).astype(np.float32)
NAME = "model_dense_weight_to_fp16"


def program_of(tmp_path, value, name=NAME, dtype=dtypes.FP16):
    b = Builder()
    b.input("x", dtype, (1, value.shape[-1]))
    made = b.const(value, dtype, blob=True)
    b.block.operations[-1].outputs[0].name = name
    y = b.op("linear", (1, value.shape[0]), dtype, x="x", weight=name)
    assert made != name
    return open_program(b.save(tmp_path, y))


def test_a_rounded_weight_agrees_with_its_source(tmp_path):
    report = compare(program_of(tmp_path, WEIGHT.astype(np.float16)), {"dense.weight": WEIGHT})
    assert report.passed
    assert report.weights[0].source == "dense.weight"
    assert report.weights[0].relative_error < 2**-11


@pytest.mark.parametrize("change", [2.0**-10, 1.0, np.nan, np.inf])
def test_one_wrong_element_is_found(tmp_path, change):
    broken = WEIGHT.astype(np.float16)
    broken[5, 3] *= 1 + change
    report = compare(program_of(tmp_path, broken), {"dense.weight": WEIGHT})
    assert [weight.beyond for weight in report.corrupted] == [1]
    assert report.weights[0].worst_channel == 5


def test_a_weight_without_a_source_fails_the_comparison(tmp_path):
    report = compare(program_of(tmp_path, WEIGHT.astype(np.float16), "mystery"), {"dense.weight": -WEIGHT})
    assert report.unmatched == ("mystery",)
    assert report.absent == ("dense.weight",)
    assert not report.passed


def test_an_integer_level_off_by_one_is_found(tmp_path):
    scale = np.abs(WEIGHT).max(1, keepdims=True) / 127
    levels = np.rint(WEIGHT / scale).astype(np.int8)

    def packaged(folder, levels):
        b = Builder()
        b.input("x", dtypes.FP16, (1, 16))
        data, factor = b.const(levels, dtypes.INT8, blob=True), b.const(scale, dtypes.FP16, blob=True)
        b.op("constexpr_blockwise_shift_scale", (8, 16), dtypes.FP16, data=data, scale=factor)
        b.block.operations[-1].outputs[0].name = f"{NAME}_quantized"
        return open_program(b.save(folder, b.op("linear", (1, 8), dtypes.FP16, x="x", weight=f"{NAME}_quantized")))

    assert compare(packaged(tmp_path / "good", levels), {"dense.weight": WEIGHT}).passed
    levels[2, 7] += 2
    report = compare(packaged(tmp_path / "bad", levels), {"dense.weight": WEIGHT})
    assert report.corrupted[0].beyond == 1
    assert report.corrupted[0].storage == "constexpr_blockwise_shift_scale"


def test_an_index_into_the_wrong_table_entry_is_found(tmp_path):
    lut = np.linspace(-2, 2, 16).astype(np.float16)
    indices = np.abs(WEIGHT[..., None] - lut.astype(np.float32)).argmin(-1).astype(np.uint8)

    def packaged(folder, indices):
        b = Builder()
        b.input("x", dtypes.FP16, (1, 16))
        picked, table = b.const(indices, dtypes.UINT4, blob=True), b.const(lut.reshape(1, 1, 16, 1), dtypes.FP16)
        b.op("constexpr_lut_to_dense", (8, 16), dtypes.FP16, indices=picked, lut=table)
        b.block.operations[-1].outputs[0].name = f"{NAME}_palettized"
        return open_program(b.save(folder, b.op("linear", (1, 8), dtypes.FP16, x="x", weight=f"{NAME}_palettized")))

    assert compare(packaged(tmp_path / "good", indices), {"dense.weight": WEIGHT}).passed
    indices[1, 1] ^= 8
    assert compare(packaged(tmp_path / "bad", indices), {"dense.weight": WEIGHT}).corrupted[0].beyond == 1


def test_rows_of_an_embedding_folded_into_a_constant_find_their_source(tmp_path):
    table = RANDOM.normal(size=(40, 16)).astype(np.float32)
    program = program_of(tmp_path, table[:8].astype(np.float16), "position_embeddings_1_to_fp16")
    report = compare(program, {"embeddings.position_embeddings.weight": table})
    assert report.weights[0].source == "rows of embeddings.position_embeddings.weight"
    assert report.passed


def test_a_scale_folded_into_a_layer_finds_both_sources(tmp_path):
    scale = RANDOM.uniform(0.5, 2, 8).astype(np.float32)
    checkpoint = {"dense.weight": WEIGHT, "norm.weight": scale, "norm.bias": np.zeros(8, np.float32)}
    report = compare(program_of(tmp_path, (WEIGHT * scale[:, None]).astype(np.float16), "query_1_weight_0"), checkpoint)
    assert report.weights[0].source == "dense.weight scaled by norm.weight"
    assert report.passed


def test_cosine_of_nothing_is_not_perfect_agreement():
    assert cosine(np.zeros(3), np.ones(3)) == 0
    assert cosine(np.zeros(3), np.zeros(3)) == 1


@pytest.mark.target
def test_per_channel_scales_that_coremltools_divides_away_are_found(tmp_path):
    """`enable_per_channel_scale` leaves tensors it skips divided by their scale (research/coreml.md, section 2)."""
    from benchmarks.coreml_subjects import convert, tiny_bert

    model = tiny_bert()
    converted = convert(model, "FLOAT16")
    import coremltools.optimize.coreml as cto

    settings = cto.OpPalettizerConfig(
        mode="uniform",
        nbits=4,
        granularity="per_grouped_channel",
        group_size=16,
        enable_per_channel_scale=True,
        weight_threshold=0,
    )
    compressed = cto.palettize_weights(converted, cto.OptimizationConfig(global_config=settings))
    compressed.save(str(tmp_path / "model.mlpackage"))
    checkpoint = {key: value.numpy() for key, value in model.state_dict().items() if value.is_floating_point()}
    report = compare(open_program(tmp_path / "model.mlpackage"), checkpoint)
    plain = {weight.source for weight in report.corrupted if weight.storage == "const"}
    assert not report.passed
    assert "classifier.weight" in plain | set(report.unmatched)
