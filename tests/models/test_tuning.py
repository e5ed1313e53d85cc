"""A pretrained encoder under a new head: rates by weight, the best epoch, half precision, interruptions."""

from dataclasses import replace

import pytest
import torch

from stages.models import interruption, training, tuning
from stages.models.finetune import rates, use_bf16
from stages.models.tuning import Best, Tuning, adamw, freezing, optimizer_of
from stages.schema.model import FineTuning
from tests.toys.interruptions import interrupted, steps_begun

SETTINGS = FineTuning(
    epochs=3.0,
    min_steps=1,
    batch_size=16,
    learning_rate=1e-3,
    head_learning_rate=1e-2,
    embedding_learning_rate=1e-4,
    layer_decay=0.5,
    arithmetic="fp32",
    weight_decay=0.01,
    warmup_fraction=0.1,
    label_smoothing=0.0,
    token_masking=0.2,
    dropout=0.1,
    seed=3,
)
NEW = ("classifier.weight", "classifier.bias")


@pytest.fixture
def examples(read_examples):
    return read_examples("train", 16), read_examples("validation", 16)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def fit(model, tokenizer, examples, settings=SETTINGS, **how):
    return training.fit(model, tokenizer, *examples, settings, tuning=Tuning(**how))


def test_the_head_the_layers_and_the_embeddings_each_have_their_rate(family, make_model):
    model = make_model(family)
    new = {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}
    found = rates(model, new, SETTINGS)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    assert {found[name] for name in new} == {1e-2}
    words = [name for name in found if name not in new and ".embedding" in name]
    assert {found[name] for name in words} == {1e-4}
    layers = {found[name] for name in found if name not in new and name not in words}
    assert layers == ({1e-3} if family == "albert" else {1e-3, 0.5e-3})  # ALBERT's two layers are one


def test_the_optimiser_has_those_rates_and_the_encoders_comes_first(make_model, examples):
    from stages.models.objective import Objective

    model = make_model()
    known = rates(model, NEW, SETTINGS)
    groups = adamw(Objective(model, examples[0], 0.0, None), SETTINGS, known).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (rate, decay) for rate in (1e-3, 1e-2, 0.5e-3, 1e-4) for decay in (0.01, 0.0)
    ]
    given = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    assert {name: given[id(weight)] for name, weight in model.named_parameters()} == known


def test_a_rate_of_zero_leaves_the_weights_as_they_were_and_trainable_afterwards(make_model, tokenizer, examples):
    model = make_model()
    before = weights(model)
    settings = SETTINGS.model_copy(update={"embedding_learning_rate": 0.0, "epochs": 0.5})
    fit(model, tokenizer, examples, settings, rates=rates(model, NEW, settings))
    changed = {name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".embeddings." not in name}
    assert all(weight.requires_grad for weight in model.parameters())


def test_freezing_spares_what_was_frozen_before(make_model):
    model = make_model()
    model.bert.pooler.dense.bias.requires_grad_(False)
    with freezing(model, {"bert.pooler.dense.bias": 0.0, "classifier.bias": 0.0}):
        assert not model.classifier.bias.requires_grad
    assert model.classifier.bias.requires_grad
    assert not model.bert.pooler.dense.bias.requires_grad


def test_the_epoch_that_is_best_on_validation_is_kept(make_model, tokenizer, examples, monkeypatch):
    measured, after = iter([0.5, 0.9, 0.7]), []

    def accuracy(model, _):
        after.append(weights(model))
        return next(measured)

    monkeypatch.setattr(training, "accuracy", accuracy)
    model = make_model()
    history = fit(model, tokenizer, examples, keep_best=True)
    assert [row.validation_accuracy for row in history] == [0.5, 0.9, 0.7]
    assert all(torch.equal(tensor, after[1][name]) for name, tensor in weights(model).items())
    assert not torch.equal(after[1]["classifier.weight"], after[2]["classifier.weight"])


def test_of_equal_epochs_the_later_is_kept(make_model):
    model = make_model()
    best = Best(model, keep=True)
    for step, accuracy in enumerate((0.8, 0.9, 0.9, 0.7)):
        torch.nn.init.constant_(model.classifier.bias, step)
        best.offer(accuracy, step)
    best.restore()
    assert (best.accuracy, best.step) == (0.9, 2)
    assert set(model.classifier.bias.tolist()) == {2.0}


def test_without_a_choice_the_last_epoch_stays(make_model, tokenizer, examples, monkeypatch):
    monkeypatch.setattr(training, "accuracy", lambda *_: 0.5)
    last, kept = make_model(), make_model()
    fit(last, tokenizer, examples)
    fit(kept, tokenizer, examples, keep_best=True)  # of three that are equal
    assert all(torch.equal(tensor, weights(kept)[name]) for name, tensor in weights(last).items())


@pytest.mark.parametrize("stop", [4, 12, 14])  # of 6 steps an epoch: within one, at the end of one, after a best one
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    stop, make_model, tokenizer, examples, tmp_path, monkeypatch
):
    monkeypatch.setattr(interruption, "SECONDS", 0.0)
    how = {"rates": rates(make_model(), NEW, SETTINGS), "bf16": True, "keep_best": True}
    whole, resumed = make_model(), make_model()
    history = fit(whole, tokenizer, examples, **how)
    with interrupted(monkeypatch, stop):
        fit(make_model(), tokenizer, examples, **how, resume=tmp_path)
    half = tmp_path / f"checkpoint-{stop + 1}"  # was being written when the machine went off
    half.mkdir()
    (half / "trainer_state.json").write_text("{", encoding="utf-8")
    steps = steps_begun(monkeypatch)
    assert fit(resumed, tokenizer, examples, **how, resume=tmp_path) == history
    assert steps == list(range(stop, 18))
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())


def test_states_of_other_inputs_or_code_are_not_gone_on_from(tmp_path, monkeypatch):
    place = tmp_path / "states"
    interruption.same_inputs(place, {"data": "a"})
    (place / "checkpoint-1").mkdir()
    interruption.same_inputs(place, {"data": "a"})
    assert (place / "checkpoint-1").is_dir()
    interruption.same_inputs(place, {"data": "b"})
    assert [path.name for path in place.iterdir()] == [interruption.INPUTS]
    (place / "checkpoint-1").mkdir()
    code = tmp_path / "code"
    code.mkdir()
    (code / "changed.py").write_text("1", encoding="utf-8")
    monkeypatch.setattr(interruption, "CODE", code)
    interruption.same_inputs(place, {"data": "b"})
    assert not (place / "checkpoint-1").exists()


def test_products_in_bf16_teach_nearly_the_same_and_leave_weights_in_fp32(make_model, tokenizer, examples):
    settings = SETTINGS.model_copy(update={"dropout": 0.0, "token_masking": 0.0, "epochs": 1.0})
    exact, half = make_model(), make_model()
    losses = [
        fit(model, tokenizer, examples, settings, bf16=on)[0].train_loss for model, on in ((exact, False), (half, True))
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert {tensor.dtype for tensor in half.state_dict().values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(
    ("precision", "flags", "expected"),
    [
        ("auto", {"amx_bf16": True}, True),
        ("auto", {"avx512_bf16": False, "avx2": True}, False),
        ("auto", {"bf16": True, "architecture": "aarch64"}, True),
        ("fp32", {"amx_bf16": True}, False),
        ("bf16", {}, True),
    ],
)
def test_bf16_is_for_processors_that_multiply_it_unless_it_is_asked_for(precision, flags, expected, monkeypatch):
    monkeypatch.setattr(tuning.torch.cpu, "get_capabilities", lambda: flags)
    assert use_bf16(SETTINGS.model_copy(update={"arithmetic": precision})) is expected


def test_texts_whose_answers_nobody_knows_do_not_choose_the_epoch(make_model, tokenizer, examples):
    train, validation = examples
    known = replace(validation, wanted=validation.wanted.copy())
    known.wanted[::2] = -1
    model = make_model()
    history = training.fit(model, tokenizer, train, known, SETTINGS, tuning=Tuning(keep_best=True))
    assert training.accuracy(model, known) == max(row.validation_accuracy for row in history)


def test_muon_updates_the_matrices_of_the_layers_and_adamw_all_else(family, make_model, examples):
    """The schedule reaches both, and so does a state that was written down."""
    from stages.models.objective import Objective

    model = make_model(family)
    both = optimizer_of(Objective(model, examples[0], 0.0, None), SETTINGS, Tuning(muon=0.5))
    names = {id(weight): name for name, weight in model.named_parameters()}
    muon = {names[id(weight)] for group in both.parts[1].param_groups for weight in group["params"]}
    assert muon
    assert all("layer" in name and "embedding" not in name and "classifier" not in name for name in muon)
    assert sorted(muon | {names[id(weight)] for group in both.parts[0].param_groups for weight in group["params"]}) == (
        sorted(names.values())
    )
    assert [group["lr"] for group in both.param_groups] == [*[1e-3] * len(both.parts[0].param_groups), 0.5]
    both.load_state_dict(both.state_dict())
    before = weights(model)
    for group in both.param_groups:
        group["lr"] = 0.0
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    both.step()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    both.param_groups[-1]["lr"] = 0.1
    both.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == muon
