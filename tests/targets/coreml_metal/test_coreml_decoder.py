"""Tests of `stages/targets/coreml_metal/decoder.py`: programs with states answer as transformers does, call by call."""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ConversionError, InputError, Unsupported
from stages.core.params import parse
from stages.coreml import open_program
from stages.measure.structure import compare
from stages.schema.variant import Float
from stages.targets.coreml_metal import decoder, lookup, quantize, structure, weights, whole
from stages.targets.coreml_metal.package import PACKAGE, WEIGHTS
from stages.targets.coreml_metal.runtime import open_runtime
from stages.tasks import registry as tasks
from tests.composed import composed
from tests.toys import decoders
from tests.toys.decoders import STRETCHED, tiny_llama, tiny_opt, tiny_qwen3
from tests.toys.targets import coreml

pytestmark = pytest.mark.target

LENGTH = 24
TASK = SimpleNamespace(name="generate", max_length=LENGTH, sequence_lengths=[LENGTH])
TARGET = coreml()
FEW = {"num_hidden_layers": 2}
ODD = {"hidden_size": 33, "num_attention_heads": 3, "attention_bias": True, **FEW}
OTHER = {"activation_function": "gelu", "enable_bias": False, "tie_word_embeddings": False, **FEW}
CASES = {
    "llama": tiny_llama(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, **FEW),
    "qwen3 of odd sizes": tiny_qwen3(num_key_value_heads=1, head_dim=6, rope_parameters=STRETCHED, **ODD),
    "opt": tiny_opt(**FEW),
    "opt of all settings": tiny_opt(do_layer_norm_before=False, word_embed_proj_dim=16, **OTHER),
}


def written(config, directory, change=lambda model: None):
    """A model of transformers with weights that matter, and what is converted from its files."""
    model, read = decoders.read(config, directory / "checkpoint", change)
    (directory / "converted").mkdir()
    decoder.convert(read, tasks.interface("generate").calls(TASK), TASK, TARGET, directory / "converted")
    return model, read


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def pair(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("decoder")
    return *written(request.param, directory), directory


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    config = tiny_llama(hidden_size=64, intermediate_size=64, num_key_value_heads=2, head_dim=16, num_hidden_layers=1)
    directory = tmp_path_factory.mktemp("first")
    return *written(config, directory), directory


def lowered(directory, precision):
    out = directory / precision
    if not out.is_dir():
        out.mkdir()
        told = parse(quantize_params(), {"precision": composed()["precisions"][precision]}, "test")
        quantize.quantize(directory / "converted", told.precision, {}, TARGET, out)
    return out


def quantize_params():
    from stages.core.params import Section
    from stages.schema.variant import Precision

    class Told(Section):
        precision: Precision

    return Told


def text(vocabulary):
    return np.random.default_rng(3).integers(3, vocabulary, LENGTH).astype(np.int32)[None]


def answers(directory, ids, cuts):
    """The last position's logits of each call, fp32 [calls, vocabulary], and the state after them."""
    session = open_runtime(directory, threads=1)
    state, ends = session.new_state(), np.cumsum(cuts)
    found = [
        session.run("decode", {"input_ids": ids[:, e - c : e]}, state)["logits"][0, 0]
        for e, c in zip(ends, cuts, strict=True)
    ]
    return np.stack(found), ends - 1, session, state


@pytest.mark.parametrize(
    "cuts", [[LENGTH], [1] * LENGTH, [7, 1, 1, 9, 6]], ids=["at once", "token by token", "in parts"]
)
def test_calls_answer_as_one_forward_pass_up_to_the_last_place_there_is(pair, cuts):
    model, read, directory = pair
    ids = text(read.vocabulary)
    wanted = decoders.forward(model, ids[0])
    found, places, session, state = answers(directory / "converted", ids, cuts)
    assert np.abs(found - wanted[places]).max() < 1e-5 * wanted.std()
    with pytest.raises(InputError, match=f"1 tokens do not fit behind {LENGTH}; expected at most {LENGTH} in all"):
        session.run("decode", {"input_ids": ids[:, :1]}, state)


def test_half_precision_computes_the_same_of_weights_that_are_as_near_as_can_be(pair):
    model, read, directory = pair
    hold(model, read, directory, "fp16", 0.03)


@pytest.mark.parametrize(("precision", "error"), [("weight_only_wi8", 0.2), ("weight_only_wi4b32", 2), ("pal6", 0.5)])
def test_compressed_programs_compute_the_same_of_weights_that_are_as_near_as_their_storage(first, precision, error):
    model, read, directory = first
    hold(model, read, directory, precision, error)
    if precision == "weight_only_wi8":
        sizes = [(directory / name / PACKAGE / WEIGHTS).stat().st_size for name in ("converted", precision)]
        assert sizes[1] < 0.45 * sizes[0]


def hold(model, read, directory, precision, error):
    ids = text(read.vocabulary)
    made, converted = lowered(directory, precision), directory / "converted"
    found = compare(structure.read(converted), structure.read(made))
    assert (found.differences, found.beyond, whole.strays(converted, made)) == ([], 0, [])
    assert found.operators > 25 * len(read.layers)
    wanted = decoders.forward(model, ids[0])
    given, places, _, _ = answers(made, ids, [1] * LENGTH)
    assert np.abs(given - wanted[places]).max() < error * wanted.std()


def test_places_beyond_what_half_precision_can_count_to_reach_the_angles_as_they_are(first):
    _, _, directory = first
    operations = open_program(lowered(directory, "fp16") / PACKAGE).function.block.operations
    types = {item.name: item.type.dtype.name for one in operations for item in one.outputs}
    made = {item.name: one for one in operations for item in one.outputs}
    path = ["angles_wide"]
    while path[-1] != "places":
        path.append(str(made[path[-1]].inputs["x"][0]))
    assert [types[name] for name in path] == ["fp32", "fp32", "fp32", "int32"]


def test_every_matrix_is_stored_once_under_its_own_name_and_a_tied_table_too(pair):
    model, read, directory = pair
    tensors = {name.removeprefix("model.").removeprefix("decoder."): value for name, value in model.named_parameters()}
    matrices = {name.replace(".", "_"): value for name, value in tensors.items() if value.ndim == 2}
    stored = weights.weights(directory / "converted")
    assert stored.keys() == {name for name, value in matrices.items() if value.numel() >= 1024}
    assert ("lm_head_weight" in stored) == (read.head is not None)
    assert (lookup.looked_up(directory / "converted", np.arange(read.vocabulary, dtype=np.int32)) == read.words).all()


def test_the_same_model_gives_the_same_bytes(first, tmp_path):
    _, read, directory = first
    decoder.convert(read, tasks.interface("generate").calls(TASK), TASK, TARGET, tmp_path)
    files = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert all((tmp_path / name).read_bytes() == (directory / "converted" / name).read_bytes() for name in files)
    assert len(files) == 5


def loud(model):
    """Residuals of some 20,000: their squares are beyond fp16."""
    model.model.embed_tokens.weight.mul_(20000 / model.model.embed_tokens.weight.abs().max())
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(20000)
        layer.mlp.down_proj.weight.mul_(3000)


def test_residuals_whose_squares_overflow_are_normalised_all_the_same(tmp_path):
    config = tiny_llama(num_key_value_heads=2, head_dim=8, tie_word_embeddings=False, num_hidden_layers=2)
    model, read = written(config, tmp_path, loud)
    seen = []
    model.model.norm.register_forward_hook(lambda _module, given, _out: seen.append(given[0].abs().max()))
    ids = text(read.vocabulary)
    wanted = decoders.forward(model, ids[0])
    assert 10_000 < float(seen[0]) < 65_504
    found, places, _, _ = answers(lowered(tmp_path, "fp16"), ids, [1] * LENGTH)
    assert np.abs(found - wanted[places]).max() < 0.03 * wanted.std()


def test_a_state_is_written_where_it_lies(first):
    _, _, directory = first
    program = open_program(lowered(directory, "fp16") / PACKAGE)
    state = program.make_state()
    arrays = dict(state)
    for place in range(2):
        program.run({"input_ids": np.ones((1, 1), np.int32), "position": np.array([place], np.int32)}, state=state)
    assert len(state) == 2
    assert all(state[name] is array for name, array in arrays.items())
    written_to = np.abs(np.stack([array[0, 0] for array in arrays.values()])).sum(axis=(0, 2)) > 0
    assert written_to.tolist() == [True, True] + [False] * (LENGTH - 2)


def test_the_signature_names_the_states_that_an_app_finds(pair):
    _, read, directory = pair
    (call,) = artifact.read_json(directory / "converted/signature.json")["calls"]
    assert [one["name"] for one in call["states"]][:3] == ["key_cache_0", "value_cache_0", "key_cache_1"]
    assert all(one["axes"] == [1, read.groups, "past", read.head_size] for one in call["states"])
    assert len(call["states"]) == 2 * len(read.layers)


def test_what_cannot_be_had_is_refused_in_a_line(first, tmp_path):
    _, read, _ = first
    calls = tasks.interface("generate").calls(TASK)
    older = TARGET.model_copy(update={"minimum_deployment_target": "iOS17"})
    with pytest.raises(Unsupported, match="no cache for a language model at iOS17; expected minimum_deployment_target"):
        decoder.convert(read, calls, TASK, older, tmp_path)
    longer = SimpleNamespace(name="generate", max_length=65, sequence_lengths=[65])
    with pytest.raises(InputError, match="the model reads 64 tokens and the task's max_length is 65"):
        decoder.convert(read, calls, longer, TARGET, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_weight_beyond_half_precision_is_refused(tmp_path):
    def huge(model):
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6

    written(tiny_llama(**FEW), tmp_path, huge)
    (tmp_path / "out").mkdir()
    with pytest.raises(ConversionError, match="up_proj_weight.*left in 32 bits|NaN or infinite"):
        quantize.quantize(tmp_path / "converted", Float(kind="float", bits=16), {}, TARGET, tmp_path / "out")
