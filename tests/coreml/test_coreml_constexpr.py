"""Every decompressed weight is bit for bit what coremltools' own `decompress` gives."""

import numpy as np
import pytest

from stages.coreml import open_program

pytestmark = pytest.mark.target


def linear(cto, **settings):
    return lambda model: cto.linear_quantize_weights(
        model, _config(cto, cto.OpLinearQuantizerConfig(weight_threshold=0, **settings))
    )


def palette(cto, **settings):
    return lambda model: cto.palettize_weights(
        model, _config(cto, cto.OpPalettizerConfig(mode="uniform", weight_threshold=0, **settings))
    )


def prune(cto, **settings):
    return lambda model: cto.prune_weights(
        model, _config(cto, cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0, **settings))
    )


def joint(cto, first, second):
    def compress(model):
        kind, settings = second
        pruned = first(model)
        run = cto.linear_quantize_weights if kind is cto.OpLinearQuantizerConfig else cto.palettize_weights
        return run(pruned, _config(cto, kind(weight_threshold=0, **settings)), joint_compression=True)

    return compress


def _config(cto, settings):
    return cto.OptimizationConfig(global_config=settings)


def schemes(cto):
    symmetric = (cto.OpLinearQuantizerConfig, {"mode": "linear_symmetric"})
    uniform = (cto.OpPalettizerConfig, {"mode": "uniform", "nbits": 4})
    return {
        ("iOS16", "affine per channel"): linear(cto, mode="linear_symmetric", dtype="int8"),
        ("iOS16", "affine per tensor"): linear(cto, mode="linear", dtype="uint8", granularity="per_tensor"),
        ("iOS16", "table of 6 bits"): palette(cto, nbits=6),
        ("iOS16", "table of 1 bit"): palette(cto, nbits=1),
        ("iOS16", "sparse"): prune(cto),
        ("iOS18", "blockwise int8"): linear(cto, mode="linear_symmetric", dtype="int8"),
        ("iOS18", "blockwise uint8 with offset"): linear(cto, mode="linear", dtype="uint8"),
        ("iOS18", "blockwise int4"): linear(
            cto, mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=4
        ),
        ("iOS18", "blockwise uint4 with offset"): linear(
            cto, mode="linear", dtype="uint4", granularity="per_block", block_size=8
        ),
        ("iOS18", "tables of 3 bits per group"): palette(cto, nbits=3, granularity="per_grouped_channel", group_size=8),
        ("iOS18", "table of 2 bits"): palette(cto, nbits=2),
        ("iOS18", "table of 8 bits"): palette(cto, nbits=8),
        ("iOS18", "sparse"): prune(cto),
        ("iOS18", "sparse blockwise"): joint(cto, prune(cto), symmetric),
        ("iOS18", "sparse table"): joint(cto, prune(cto), uniform),
    }


@pytest.fixture(scope="module")
def bases():
    from benchmarks.coreml_subjects import convert, tiny_bert

    model = tiny_bert()
    return {target: convert(model, "FLOAT16", target) for target in ("iOS16", "iOS18")}


def compare(package, model):
    """Yield (name, ours, coremltools') for every decompression of a package."""
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = model.get_spec()
    loaded = load(spec, spec.specificationVersion, str(package / "Data/com.apple.CoreML/weights"))
    ours = open_program(package).known.constants
    for operation in loaded.functions["main"].operations:
        if operation.op_type.startswith("constexpr_"):
            theirs = operation.materialized_val_inference()
            for output, value in zip(
                operation.outputs, theirs if isinstance(theirs, tuple) else (theirs,), strict=True
            ):
                yield operation.op_type, ours[output.name], np.asarray(value)


def test_decompression_is_bit_identical_to_coremltools(bases, tmp_path):
    import coremltools.optimize.coreml as cto

    seen, compared = set(), 0
    for (target, name), compress in schemes(cto).items():
        compressed = compress(bases[target])
        package = tmp_path / f"{target} {name}.mlpackage"
        compressed.save(str(package))
        for kind, ours, theirs in compare(package, compressed):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{target} {name} {kind}")
            if theirs.dtype.kind == "f":
                assert ours.tobytes() == theirs.astype(ours.dtype).tobytes()
            seen.add((target, kind))
            compared += 1
    assert compared > 150
    assert len({kind for _, kind in seen}) >= 6


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_tables_of_vectors_are_bit_identical_to_coremltools(axis):
    from coremltools.optimize._utils import lut_to_dense

    from stages.coreml.ops.constexpr import lut_to_dense as ours

    chance = np.random.default_rng(0)
    indices = chance.integers(0, 16, (4, 6)).astype(np.uint8)
    lut = chance.normal(size=(2, 3, 16, 2)).astype(np.float16)
    np.testing.assert_array_equal(ours(indices, lut, vector_axis=axis), lut_to_dense(indices, lut, axis))
