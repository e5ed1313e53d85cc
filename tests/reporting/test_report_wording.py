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
