"""A tag for every word of a text: a day, a long word, or neither."""

from stages.tasks.base import Primary

PRIMARY = Primary("accuracy", "accuracy", "accuracy_drop_to_reference", "accuracy_drop_to_teacher")
LATENCIES = {"true_length": "latency"}
SPEEDS: dict[str, str] = {}
ITEM = "token"
DEMO = ""
