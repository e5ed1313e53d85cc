import pytest
import torch

from stages.core.splits import UNKNOWN
from stages.models.objective import cross_entropy, distillation_loss, layer_map


def test_a_student_that_answers_like_its_teacher_loses_nothing():
    logits = torch.tensor([[1.0, 2.0, -3.0]])
    assert distillation_loss(logits + 5, logits, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_is_t_squared_times_the_kl_divergence_in_nats():
    student, teacher = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
    p = torch.softmax(teacher / 2, -1)
    expected = 4 * (p * (p / 0.5).log()).sum().item()
    assert distillation_loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_hardly_depends_on_a_high_temperature():
    def gradient(temperature):
        student = torch.zeros(1, 3, requires_grad=True)
        distillation_loss(student, torch.tensor([[1.0, 0.0, -1.0]]), temperature).backward()
        return student.grad

    torch.testing.assert_close(gradient(20.0), gradient(40.0), rtol=0.1, atol=5e-3)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(2, 4, [1, 3]), (4, 4, [0, 1, 2, 3]), (3, 12, [3, 7, 11]), (2, 3, [1, 2]), (1, 5, [4])],
)
def test_layers_are_evenly_spaced_and_the_last_stands_for_the_last(student, teacher, expected):
    assert layer_map(student, teacher) == expected


def test_a_deeper_student_repeats_teacher_layers_in_order():
    assert layer_map(6, 3) == [0, 0, 1, 1, 2, 2]


def test_where_no_label_is_known_cross_entropy_teaches_nothing():
    answers = torch.randn(3, 4, requires_grad=True)
    entropy = cross_entropy(answers, torch.full((3,), UNKNOWN))
    entropy.backward()
    assert entropy.item() == 0
    assert not answers.grad.any()
    assert cross_entropy(answers, torch.tensor([UNKNOWN, 1, UNKNOWN])) == cross_entropy(answers[1:2], torch.tensor([1]))
