"""Every model against every other: who answers alike, and what TensorFlow says of the same file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from stages.core import artifact
from stages.measure import items
from stages.measure.statistics import proportion_interval
from stages.measure.top_logits import Logits
from stages.reporting import agreement, page
from tests.toys.report_build import LABELS, TEST, variants, written

KEY = "tflite-nnapi-fp32"


def opine(build: Path, answers: np.ndarray, key: str = KEY) -> None:
    """Write what TensorFlow would have answered to an artifact's first utterances."""
    parents = {"artifact": build / "artifact" / key}
    with artifact.writing(build / "second_opinion" / key, stage="second_opinion", parents=parents) as out:
        artifact.write_arrays(out / "answers.npz", {"reference_test": answers.astype(np.int32)})


def models(build: Path) -> dict[str, agreement.Model]:
    return {model.name: model for model in agreement.read_agreement(variants(), build, np.arange(TEST))}


def test_no_answer_equals_nothing_not_even_itself() -> None:
    logits = np.array([[1, 0], [np.nan, 0], [0, np.inf], [0, 1]], np.float32)
    answers = agreement.answer(Logits(logits))
    assert answers.tolist() == [0, -1, -1, 1]
    assert agreement.share(answers, answers, np.arange(4)) == agreement.Share(0.5, proportion_interval(2, 4), 4)


def test_models_are_compared_on_the_utterances_both_were_asked() -> None:
    found = agreement.share(np.array([1, 1, 0, 0]), np.array([1, 0]), np.arange(4))
    assert (found.value, found.n) == (0.5, 2)


def test_everything_that_answered_meets_everything_else(build: Path) -> None:
    found = agreement.read_agreement(variants(), build, np.arange(TEST))
    ran = [key for key in variants() if not key.startswith("coreml")]
    assert [model.name for model in found] == ["teacher", "none", "pruned", *ran]
    table = np.array([[share.value for share in model.shares] for model in found])
    assert (table == table.T).all()
    first, second = (items.read(build / "parity" / key)["test"].answer for key in (ran[0], ran[2]))
    expected = float((first == second).mean())
    assert table[3, 5] == expected < 0.9
    # 7 of the pruned variant's answers are NaN.
    assert table[-1, -1] == 1 - 7 / TEST


def test_the_data_file_has_every_pair_once_with_its_interval(build: Path) -> None:
    written(build)
    rows = json.loads((build / "report/agreement.json").read_text(encoding="utf-8"))
    assert len(rows) == 9 * 8 / 2
    row = next(row for row in rows if (row["first"], row["second"]) == ("teacher", "none"))
    same = round(row["agreement"] * TEST)
    assert (row["agreement_low"], row["agreement_high"]) == proportion_interval(same, TEST)


def test_the_page_has_a_shaded_cell_with_interval_for_every_pair(build: Path) -> None:
    html = written(build)
    table = html[html.index('id="agreement"') : html.index('id="lineage"')]
    assert len(re.findall(r'<td class="number heat\d"', table)) == 9 * 8
    assert "TensorFlow" not in table
    found = models(build)["teacher"].shares[1]
    low, high = found.interval
    assert f'{100 * found.value:.1f}<span class="sub">{100 * low:.1f}–{100 * high:.1f}</span>' in table


@pytest.mark.parametrize(("value", "shade"), [(1.0, 0), (0.999, 1), (0.985, 3), (0.93, 5), (0.2, 6)])
def test_a_cell_darkens_with_the_share_of_different_answers(value: float, shade: int) -> None:
    assert page.heat(agreement.Share(value, (0, 1), 100)) == f"heat{shade}"


def test_a_second_opinion_is_a_column_with_its_own_n(build: Path) -> None:
    answers = items.read(build / "parity" / KEY)["test"].answer[:50]
    answers[:5] = (answers[:5] + 1) % LABELS
    opine(build, answers)
    assert models(build)[KEY].opinions == {"reference": agreement.Share(0.9, proportion_interval(45, 50), 50)}
    html = written(build)
    assert "reference kernels" in html
    assert "its delegate</span></th>" not in html
    assert "n&nbsp;=&nbsp;50</span>" in html


def test_a_second_opinion_on_other_bytes_is_passed_over(build: Path) -> None:
    opine(build, np.zeros(50, int))
    with artifact.writing(build / "artifact" / KEY, stage="quantize", parents={}) as out:
        (out / "model.bin").write_bytes(b"other")
    assert models(build)[KEY].opinions == {}
