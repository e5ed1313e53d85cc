import csv
import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.core.errors import ConfigError, InputError
from stages.core.splits import UNKNOWN
from stages.models import dropout, objective, training
from stages.models.encode import logits
from stages.models.examples import Examples
from stages.models.objective import Guidance
from stages.models.training import batches, fit
from stages.models.tuning import adamw
from stages.schema.model import Training

SETTINGS = Training(
    epochs=2.0,
    min_steps=1,
    batch_size=16,
    learning_rate=3e-3,
    weight_decay=0.01,
    warmup_fraction=0.1,
    label_smoothing=0.0,
    token_masking=0.1,
    dropout=0.1,
    seed=3,
)


@pytest.fixture
def examples(read_examples):
    return read_examples("train", 16), read_examples("validation", 16)


def changed(**changes):
    return SETTINGS.model_copy(update=changes)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_training_learns_and_the_history_has_one_row_per_epoch(make_model, tokenizer, examples):
    model = make_model(seed=1)
    before = training.accuracy(model, examples[1])
    settings = changed(epochs=12.0, learning_rate=1e-2, token_masking=0.0, dropout=0.0)
    history = fit(model, tokenizer, *examples, settings)
    assert [row.step for row in history] == [6 * (epoch + 1) for epoch in range(12)]
    assert history[-1].train_loss < history[0].train_loss
    assert history[-1].validation_accuracy == training.accuracy(model, examples[1]) > max(before, 0.6)
    assert not model.training


def test_half_an_epoch_is_half_the_steps(make_model, tokenizer, examples):
    history = fit(make_model(), tokenizer, *examples, changed(epochs=1.5))
    assert [(row.step, row.epoch) for row in history] == [(6, 1.0), (9, 1.5)]


def test_few_texts_are_read_again_until_the_least_steps_are_taken(make_model, tokenizer, examples):
    history = fit(make_model(), tokenizer, *examples, changed(epochs=0.5, min_steps=14))
    assert [row.step for row in history] == [6, 12, 14]
    assert history[-1].learning_rate == 0 < history[1].learning_rate


def test_the_learning_rate_warms_up_and_ends_at_zero(make_model, tokenizer, examples):
    history = fit(make_model(), tokenizer, *examples, changed(epochs=4.0, warmup_fraction=0.5))
    rates = [row.learning_rate for row in history]
    assert rates[1] == pytest.approx(SETTINGS.learning_rate)
    assert rates[0] < rates[1] > rates[2] > rates[3] == 0


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_model, tokenizer, examples):
    models = [make_model(seed=1) for _ in range(3)]
    for model, seed, noise in zip(models, (3, 3, 4), (0, 1, 2), strict=True):
        torch.manual_seed(noise)  # the caller's random state must not matter
        fit(model, tokenizer, *examples, changed(seed=seed))
    first, again, other = (weights(model) for model in models)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_restores_the_callers_torch_settings_and_the_models_dropout(make_model, tokenizer, examples):
    model = make_model()
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    fit(model, tokenizer, *examples, changed(epochs=0.2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert rates == [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]


def test_hidden_states_are_dropped_and_attention_weights_are_not(family, make_model):
    model = make_model(family)
    with dropout.dropping(model, 0.3):
        rates = {name: module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    attention = [name for name, rate in rates.items() if rate == 0.0]
    # One per layer; ALBERT's layers are one, and ModernBERT's attention has a number for it.
    assert len(attention) == {"albert": 1, "modernbert": 0}.get(family, 2)
    assert set(rates.values()) - {0.0} == {0.3}


def test_attention_weights_are_not_dropped_either_where_a_number_says_so(make_model):
    model = make_model("modernbert", attention_dropout=0.1)
    layers = model.base_model.layers
    with dropout.dropping(model, 0.3):
        assert [layer.attn.attention_dropout for layer in layers] == [0.0, 0.0]
        assert {layer.attn.out_drop.p for layer in layers} == {0.3}
    assert [layer.attn.attention_dropout for layer in layers] == [0.1, 0.1]


def test_training_prints_to_stderr_only_and_writes_no_file(make_model, tokenizer, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    captured = io.StringIO()
    monkeypatch.setattr(sys, "stdout", captured)
    fit(make_model(), tokenizer, *examples, changed(epochs=0.5))
    assert captured.getvalue() == ""
    assert not list(tmp_path.iterdir())


def test_a_student_follows_its_teacher_rather_than_the_labels(make_model, tokenizer, examples):
    train, validation = examples
    teacher = make_model(seed=7)
    answers = logits(teacher, train.encoded)
    guidance = Guidance(answers, temperature=2.0, kl_weight=1.0, ce_weight=0.0)
    student = make_model(seed=8)
    before = (logits(student, train.encoded).argmax(1) == answers.argmax(1)).mean()
    fit(student, tokenizer, train, validation, changed(epochs=15.0, dropout=0.0, token_masking=0.0), guidance=guidance)
    after = (logits(student, train.encoded).argmax(1) == answers.argmax(1)).mean()
    assert after > max(before, 0.8)


def test_a_teacher_that_answers_too_much_to_remember_is_asked_at_each_step(
    make_model, tokenizer, examples, monkeypatch
):
    train, validation = examples
    teacher, curves = make_model(seed=7), []
    for most in (objective.REMEMBERED, 0):
        monkeypatch.setattr(objective, "REMEMBERED", most)
        given = objective.remembered(teacher, train.encoded)
        assert (given is None) == (most == 0)
        guidance = Guidance(given, 2.0, kl_weight=1.0, ce_weight=0.2, teacher=teacher)
        history = fit(make_model(seed=8), tokenizer, train, validation, changed(epochs=3.0), guidance=guidance)
        curves.append([row.train_loss for row in history])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_hidden_states_draw_nearer_to_the_teachers(make_model, tokenizer, examples):
    from stages.models.objective import Objective

    train, validation = examples
    teacher = make_model(seed=7)
    guidance = Guidance(
        logits(teacher, train.encoded), 2.0, kl_weight=0.0, ce_weight=0.0, hidden_weight=1.0, teacher=teacher
    )
    frozen = weights(teacher)
    student = make_model(seed=8, hidden_size=16, num_attention_heads=2, num_hidden_layers=1)
    history = fit(student, tokenizer, train, validation, changed(epochs=8.0), guidance=guidance)
    assert history[-1].train_loss < history[0].train_loss
    assert all(torch.equal(frozen[name], tensor) for name, tensor in teacher.state_dict().items())
    assert Objective(student, train, 0.0, guidance).layers == [1]


def test_no_weight_decay_on_vectors(make_model, examples):
    from stages.models.objective import Objective

    groups = adamw(Objective(make_model(), examples[0], 0.0, None), SETTINGS, {}).param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert {tensor.ndim for tensor in groups[0]["params"]} == {2}
    assert {tensor.ndim for tensor in groups[1]["params"]} == {1}


def test_masking_spares_special_tokens_and_padding(tokenizer, examples):
    train = examples[0]
    batch = training._Collate(train, tokenizer, changed(token_masking=1.0))(list(range(32)))
    special = np.isin(batch["input_ids"].numpy(), tokenizer.all_special_ids)
    masked = batch["masked_ids"].numpy()
    assert (masked[~special] == tokenizer.mask_token_id).all()
    assert (masked[special] == batch["input_ids"].numpy()[special]).all()


def test_masking_without_a_mask_token_is_refused(make_model, tokenizer, examples, monkeypatch):
    from copy import deepcopy

    maskless = deepcopy(tokenizer)
    maskless.mask_token = None
    with pytest.raises(ConfigError, match="the tokenizer has none; next: set token_masking: 0"):
        fit(make_model(), maskless, *examples, SETTINGS)


def test_a_loss_that_runs_away_is_an_error_and_not_a_checkpoint(make_model, tokenizer, examples):
    model = make_model()
    model.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="the loss is nan at step 6; next: lower"):
        fit(model, tokenizer, *examples, SETTINGS)


def test_texts_without_a_label_cannot_be_learned_from(make_model, tokenizer, examples):
    unlabelled = replace(examples[1], wanted=np.full(24, -1, np.int64))
    with pytest.raises(InputError, match="none of the texts to learn from has a label"):
        fit(make_model(), tokenizer, examples[0], unlabelled, SETTINGS)


def test_a_text_without_a_label_counts_as_if_it_were_not_there(make_model, tokenizer, examples):
    train, validation = examples
    half = replace(train, wanted=np.where(np.arange(96) < 48, train.wanted, -1))
    settings = changed(epochs=1.0, batch_size=96, token_masking=0.0, dropout=0.0)
    unlike, loss, same = (
        fit(make_model(), tokenizer, one, validation, settings)[0].train_loss
        for one in (train, half, train.take(np.arange(48)))
    )
    assert loss == pytest.approx(same)
    assert loss != pytest.approx(unlike)


def test_an_epoch_has_every_text_once_and_batches_of_similar_length():
    lengths = np.random.default_rng(0).integers(3, 30, 1000)
    found = batches(lengths, 20, np.random.default_rng(1))
    assert sorted(np.concatenate(found)) == list(range(1000))
    assert np.mean([np.ptp(lengths[rows]) for rows in found]) < 4
    assert [rows.tolist() for rows in found] != [
        rows.tolist() for rows in batches(lengths, 20, np.random.default_rng(2))
    ]


def test_the_history_is_a_csv_with_units_a_plot_can_name(tmp_path):
    rows = [training.Row(10, 1.0, 0.123456789, 0.5, 1e-3)]
    training.write_history(tmp_path / "history.csv", rows)
    with (tmp_path / "history.csv").open(encoding="utf-8") as stream:
        assert list(csv.DictReader(stream)) == [
            {
                "step": "10",
                "epoch": "1",
                "train_loss": "0.123457",
                "validation_accuracy": "0.5",
                "learning_rate": "0.001",
            }
        ]


@pytest.mark.parametrize("guided", [False, True])
def test_a_batch_that_is_too_large_goes_through_in_parts_that_teach_the_same(
    guided, make_model, tokenizer, examples, monkeypatch
):
    settings = changed(epochs=0.5, dropout=0.0, token_masking=0.0, batch_size=24)
    wanted = logits(make_model(seed=7), examples[0].encoded)
    rows: list[int] = []

    def learned(kept):
        monkeypatch.setattr(training, "KEPT", kept)
        model = make_model(seed=1)
        rows.clear()
        model.register_forward_pre_hook(lambda _, __, named: rows.append(len(named["input_ids"])), with_kwargs=True)
        guidance = Guidance(wanted, 2.0, 1.0, 0.2) if guided else None
        history = fit(model, tokenizer, *examples, settings, guidance=guidance)
        return weights(model), history[-1].train_loss, max(rows[:4])

    whole, loss, most = learned(training.KEPT)
    assert most == 24
    parts, same, fewer = learned(1 << 17)
    assert fewer < 24
    assert same == pytest.approx(loss, rel=1e-4)
    assert max(float((whole[name] - value).abs().max()) for name, value in parts.items()) < 2e-3


def test_parts_without_a_label_teach_what_the_teacher_says(make_model, tokenizer, examples, monkeypatch):
    """Of a batch in parts most have no labelled text here, and all count as much as they have texts."""
    wanted = logits(make_model(seed=7), examples[0].encoded)
    labels = np.where(np.arange(len(wanted)) % 12, UNKNOWN, examples[0].wanted)
    train = Examples(examples[0].encoded, labels, examples[0].items)
    settings = changed(epochs=0.5, dropout=0.0, token_masking=0.0, batch_size=24)

    def learned(kept):
        monkeypatch.setattr(training, "KEPT", kept)
        model = make_model(seed=1)
        fit(model, tokenizer, train, examples[1], settings, guidance=Guidance(wanted, 2.0, 1.0, 0.0))
        return weights(model)

    whole, parts = learned(training.KEPT), learned(1 << 17)
    assert max(float((whole[name] - value).abs().max()) for name, value in parts.items()) < 2e-3


def test_what_trains_does_not_import_what_only_trainer_asks_for():
    import subprocess

    code = (
        "import sys; from stages.models import training; sys.exit('datasets' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
