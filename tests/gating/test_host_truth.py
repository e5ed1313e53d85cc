"""Notes name the hosts and runtimes whose numbers are not the device's."""

import pytest

from stages.gating import host_truth


def said(machine="x86_64", isa=("avx2",), clipped=3, sums=1000):
    return " ".join(host_truth.notes(machine=machine, isa=isa, clipped=clipped, sums=sums))


@pytest.mark.parametrize(
    ("machine", "isa", "expected"),
    [
        ("x86_64", ["avx2"], True),
        ("AMD64", ["avx2", "avx512f"], True),
        ("x86_64", ["avx2", "avx_vnni"], False),
        ("x86_64", ["avx512f", "avx512_vnni"], False),
        ("aarch64", ["asimd", "asimddp"], False),
        ("arm64", [], False),
    ],
)
def test_pairs_are_added_in_16_bits_on_x86_without_vnni_alone(machine, isa, expected):
    assert host_truth.saturates(machine, isa) == expected


def test_a_host_that_saturates_says_its_numbers_are_not_the_phones():
    assert "measured numerics are not the phone's" in said()
    assert "3 of 1,000 16-bit sums" in said()
    assert "prefer unsigned 8-bit weights" in said()


@pytest.mark.parametrize("host", [{"isa": ("avx2", "avx_vnni")}, {"machine": "aarch64", "isa": ("asimd",)}])
def test_a_host_that_does_not_saturate_warns_of_those_that_do(host):
    text = said(**host)
    assert text.startswith("numerics differ on x86-64 without VNNI: saturating accumulations on AVX2: 3 of 1,000")
    assert "not the phone's" not in text


def test_artifacts_whose_sums_fit_carry_no_note():
    assert said(clipped=0) == said(clipped=0, sums=0) == ""
