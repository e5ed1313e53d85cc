"""The tables of docs/choosing.md name what nothing else beats, and only that."""

import json

from benchmarks.choosing import front, tables


def row(size, accuracy, p50=None, verdict="pass"):
    metrics = {"size_bytes": size, "accuracy": accuracy, "top1_agreement": 1.0}
    timed = {} if p50 is None else {"latency_p50_ms": p50, "latency_full_p50_ms": 2 * p50}
    shared = {"compression": "none", "precision": f"p{size}", "target": "onnx-cpu"}
    return {"metrics": metrics | timed, "verdict": verdict, **shared}


def test_the_front_holds_what_is_best_on_some_axis_for_its_others():
    small, accurate, fast = row(1000, 0.8, 3.0), row(3000, 0.9, 3.0), row(3000, 0.8, 1.0)
    beaten, failing = row(3000, 0.8, 3.0), row(500, 0.9, 0.5, verdict="fail")
    assert front([beaten, small, accurate, fast, failing]) == [small, accurate, fast]


def test_equal_rows_do_not_beat_each_other_and_what_was_not_timed_is_compared_by_the_rest():
    assert front([row(1000, 0.8), row(1000, 0.8)]) == [row(1000, 0.8), row(1000, 0.8)]
    assert front([row(1000, 0.9), row(2000, 0.8, 1.0)]) == [row(1000, 0.9)]


def test_a_table_is_sorted_by_size_and_says_what_was_not_measured(tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher/model.safetensors").write_bytes(bytes(4000))
    variants = {"b": row(2000, 0.9, 1.0), "a": row(1000, 0.8)}
    (tmp_path / "verdicts.json").write_text(json.dumps({"variants": variants}), encoding="utf-8")
    _, _, first, second, _ = tables(tmp_path, {"b": 12.34})
    assert first == "| `none` p1000 ★ | 1 | 4.0× | 80.00 | 100.00 | – | – | – | pass |"
    assert second == "| `none` p2000 ★ | 2 | 2.0× | 90.00 | 100.00 | 1.000 | 2.000 | 12.3× | pass |"
