"""Two graphs of one model are the same up to the rounding of weights, or the comparison says where they are not."""

import numpy as np
import pytest

from stages.measure.structure import Constant, Input, Node, Rounded, compare, exact, half, misfits, uniform

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(0, 0.1, (8, 6)).astype(np.float32)
BIAS = RANDOM.normal(0, 0.1, 8).astype(np.float32)


def quantised(weight, bits=8):
    step = np.abs(weight).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    levels = np.rint(weight / step).astype(np.int8)
    return levels, step


def graph(weight=None, bias=None, op="GELU", epsilon=1e-5, size=8, source="ids"):
    weight = Constant("weight", WEIGHT) if weight is None else weight
    bias = Constant("bias", BIAS) if bias is None else bias
    looked_up = Node("GATHER", "gather", {"0": Constant("table", WEIGHT.T), "1": Input(source)})
    product = Node("DENSE", "dense", {"0": looked_up, "1": weight, "2": bias})
    shaped = Node("RESHAPE", "reshape", {"0": product, "1": Constant("shape", np.int32([1, size]))})
    active = Node(op, "active", {"0": shaped})
    return {"logits": Node("NORM", "norm", {"0": active, "1": active}, {"epsilon": epsilon})}


def test_equal_graphs_have_no_differences_and_list_every_weight():
    found = compare(graph(), graph())
    assert (found.differences, found.beyond) == ([], 0)
    assert {weight.name for weight in found.weights} == {"weight", "bias", "table"}
    assert all(weight.cosine == pytest.approx(1) for weight in found.weights)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"op": "RELU"}, "'active' is RELU, expected GELU"),
        ({"epsilon": 1e-3}, "'norm' (NORM) has epsilon = 0.001, expected 1e-05"),
        ({"size": 4}, "'reshape' input 1 is [1 4], expected [1 8]"),
        ({"source": "mask"}, "'gather' input 1 is input 'mask', expected input 'ids'"),
        ({"weight": Constant("weight", WEIGHT[:4])}, "'dense' input 1 has shape [4, 6], expected [8, 6]"),
        ({"weight": Input("ids")}, "'dense' input 1 is input 'ids', expected a constant"),
    ],
)
def test_each_difference_is_named_once(change, line):
    assert compare(graph(), graph(**change)).differences == [line]


def test_a_missing_input_and_a_missing_output_are_differences():
    short = {"logits": Node("NORM", "norm", {"0": Input("ids")}, {"epsilon": 1e-5})}
    assert compare(graph(), short).differences == ["'norm' (NORM) has inputs ['0'], expected ['0', '1']"]
    assert compare(graph(), {}).differences == ["outputs are [], expected ['logits']"]


def test_rounding_to_the_nearest_level_is_allowed_and_one_level_more_is_not():
    levels, step = quantised(WEIGHT)
    sound = Constant("w", levels * step, uniform(step, levels, 8))
    assert compare(graph(), graph(weight=sound)).beyond == 0
    wrong = levels.copy()
    wrong[2, 3] += 1 if wrong[2, 3] < 100 else -1
    (found,) = [w for w in compare(graph(), graph(weight=Constant("w", wrong * step, uniform(step, wrong, 8)))).weights
                if w.beyond]  # fmt: skip
    assert (found.name, found.beyond, found.channel, found.size) == ("weight", 1, 2, 48)


@pytest.mark.parametrize("factor", [0.5, 2, 1000])
def test_a_wrong_scale_explains_nothing_however_long_its_step(factor):
    levels, step = quantised(WEIGHT)
    step = step.copy()
    step[5] *= factor
    broken = Constant("w", levels * step, uniform(step, levels, 8))
    assert compare(graph(), graph(weight=broken)).beyond >= 5


def test_zeros_behind_a_huge_step_are_beyond():
    levels, step = np.zeros((8, 6), np.int8), np.full((8, 1), 1e6, np.float32)
    assert compare(graph(), graph(weight=Constant("w", levels * step, uniform(step, levels, 8)))).beyond > 40


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_is_beyond(poison):
    broken = BIAS.copy()
    broken[3] = poison
    (found,) = [w for w in compare(graph(), graph(bias=Constant("b", broken))).weights if w.beyond]
    assert (found.name, found.beyond, found.channel) == ("bias", 1, 3)


def test_floats_are_equal_to_the_bit_unless_stored_as_fp16():
    rounded = BIAS.astype(np.float16)
    assert compare(graph(), graph(bias=Constant("b", rounded, half))).beyond == 0
    assert compare(graph(), graph(bias=Constant("b", rounded, exact))).beyond == 8
    flipped = (rounded.view(np.uint16) ^ 1).view(np.float16)
    assert compare(graph(), graph(bias=Constant("b", flipped, half))).beyond == 8


def test_a_transposed_constant_keeps_its_bound():
    levels, step = quantised(WEIGHT)
    turned = Constant("w", (levels * step).T, lambda source: uniform(step, levels, 8)(source.T).T).transposed()
    assert compare(graph(), graph(weight=turned)).beyond == 0


def test_the_rounding_of_an_activation_is_no_difference_and_is_kept_beside_its_source():
    norm = graph()["logits"]
    rounded = Rounded.on_grid(norm.inputs["0"], 0.1, 20, 0, 255)
    other = Node("NORM", "other", {"0": rounded, "1": rounded}, norm.attributes)
    found = compare(graph(), {"logits": Rounded.on_grid(other, 1, 0, 0, 9)})
    assert (found.differences, found.beyond) == ([], 0)
    assert set(found.grids) == {"norm", "active"}
    assert [(grid.low, grid.high) for grid in found.grids["active"]] == [pytest.approx((-2, 23.5))]


def test_an_activation_that_is_rounded_in_two_ways_is_measured_by_both():
    twice = Rounded.on_grid(Rounded.on_grid(graph()["logits"], 0.1, 20, 0, 255), 7, 0, 0, 9)
    assert len(compare(graph(), {"logits": twice}).grids["norm"]) == 2


def test_what_nothing_measures_may_not_be_rounded():
    source = {"logits": Input("ids")}
    found = compare(source, {"logits": Rounded.on_grid(source["logits"], 1, 0, 0, 9)})
    assert found.differences == ["logits (input 'ids') is rounded, which nothing measures"]


@pytest.mark.parametrize(
    ("seen", "fits"),
    [
        ((-2, 23.5), True),
        ((-2.15, 23.6), True),
        ((-3.6, 20), False),
        ((-2, 26), False),
        ((0, 21), True),
        ((0, 19), False),
    ],
)
def test_integers_must_cover_what_calibration_saw_and_not_much_more(seen, fits):
    grid = Rounded.on_grid(Input("x"), 0.1, 20, 0, 255)
    assert (misfits({"x": [grid]}, {"x": seen}, {"x": seen}) == []) == fits
    assert misfits({"x": [Rounded(grid.value, 0, 0, 0)]}, {"x": seen}, {"x": seen})


def test_a_borrowed_or_symmetric_grid_may_be_used_in_part():
    grid, borrowed = (Rounded.on_grid(Input("x"), 0.1, 20, 0, 255, borrowed=one) for one in (False, True))
    assert misfits({"x": [grid]}, {"x": (0, 1)}, {"x": (0, 1)})
    assert not misfits({"x": [borrowed]}, {"x": (0, 1)}, {"x": (0, 1)})
    assert not misfits({"x": [grid]}, {"x": (0, 1)}, {"x": (-2, 23)})
    assert len(misfits({"x": [borrowed, grid]}, {"x": (0, 1)}, {"x": (0, 1)})) == 1
    symmetric = Rounded.on_grid(Input("x"), 0.1, 0, -127, 127)
    assert not misfits({"x": [symmetric]}, {"x": (0, 12.5)}, {"x": (0, 12.5)})


def test_a_grid_on_what_calibration_never_computes_fits_nothing():
    grid = Rounded.on_grid(Input("x"), 0.1, 20, 0, 255)
    assert misfits({"x": [grid]}, {}, {}) == ["'x' is rounded, and calibration never computes it"]
    assert misfits({"x": [grid]}, {}, {"x": (-2, 23.5)}) == []
