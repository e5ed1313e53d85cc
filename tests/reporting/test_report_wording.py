"""Numbers in words."""

from __future__ import annotations

import pytest

from stages.reporting import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.012"), (0.47, "0.470"), (1.3, "1.30"), (61.97, "62.0"), (1234.4, "1,234")],
)
def test_magnitudes_have_about_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert wording.magnitude(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00"), (-1e-9, "0.00"), (-0.0122, "−1.22"), (0.395, "+39.50")])
def test_differences_are_signed_points_and_zero_has_no_sign(value: float, text: str) -> None:
    assert wording.points(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.27, "0.27"), (3.4e-7, "3.4×10⁻⁷"), (2e5, "2.0×10⁵")])
def test_errors_of_any_magnitude_are_legible(value: float, text: str) -> None:
    assert wording.scientific(value) == text


@pytest.mark.parametrize(
    ("value", "metric", "text", "change"),
    [
        (0.9722, "accuracy", "97.22 %", "+97.22"),
        (2.5e6, "size_bytes", "2.50 MB", "+2.5e+06"),
        (1.304, "relative_max_error", "1.30", "+1.3"),
        (0.25, "kl_divergence_mean", "0.250 nat", "+0.25"),
    ],
)
def test_a_metric_is_written_with_its_unit_and_its_change_with_a_sign(
    value: float, metric: str, text: str, change: str
) -> None:
    assert wording.measure(value, metric) == text
    assert wording.change(value, metric) == change
