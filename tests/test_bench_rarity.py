"""What a student loses stands by how often train has the rarest piece of a text."""

import numpy as np

from benchmarks.rarity import rarest, table


def test_a_text_counts_by_its_rarest_piece_and_losses_by_texts():
    seen = rarest([[5, 6], [5, 7, 7, 7]], [[5, 6], [5], [7, 9], [], [7]])
    assert seen.tolist() == [1, 2, 0, 0, 3]
    teacher = np.array([True, True, True, False, True])
    lines = list(table(teacher, {"small": np.array([True, False, False, False, True])}, seen))
    assert "0 (2 texts) | 1-2 (2 texts) | 3-49 (1 texts) |" in lines[0]  # none is left out, and no empty group shown
    cells = [cell.split(" [")[0] for cell in lines[2].split(" | ")]
    assert cells == ["| small", "40.00 %", "50.00", "50.00", "0.00"]
