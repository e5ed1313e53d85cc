"""A text to one of several labels."""

from stages.tasks.base import Primary

PRIMARY = Primary(
    "accuracy",
    "accuracy",
    "accuracy_drop_to_reference",
    "accuracy_drop_to_teacher",
    kept="accuracy_kept_of_teacher",
    on_validation="validation_kept_of_teacher",
    over_bar="accuracy_over_bar",
)
LATENCIES = {"true_length": "latency", "full_length": "latency_full"}
SPEEDS: dict[str, str] = {}
ITEM = "utterance"
DEMO = "classifies"
