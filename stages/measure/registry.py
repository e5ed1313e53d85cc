"""The registry of metrics: name, unit, range, direction and sample, once, for stages, gates and the report.

A gate whose metric is a fraction and whose threshold is in percent can never fire; here it cannot be written. A number
that its metric cannot have is no measurement, whoever wrote it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

Unit = Literal["fraction", "logit", "ratio", "cosine", "nat", "count", "ms", "byte"]
Split = Literal["probe", "test", "coverage", "calibration"]
Group = Literal["quality", "benchmark", "parity"]
When = Literal["always", "read", "executed", "timed", "asked"]

PERCENTILES = {50: "median", 90: "90th percentile", 99: "99th percentile"}  # of latencies
RATE_ITEMS = 10
"""Fewest items of a rate: with fewer, its 95 % interval covers half of all possible rates."""


@dataclass(frozen=True)
class Sample:
    """What a metric is measured on.

    Attributes:
        items: what counts as one, in the plural.
        when: what must have happened for the metric to be there: `read` needs an artifact that is one and no runtime,
            `asked` is a matter of the precision, whose thresholds ask for it.
        splits: where the items come from, if they are texts.
    """

    items: str
    when: When
    splits: tuple[Split, ...] = ()


TEST = Sample("test texts", "executed", ("test",))
LABELLED = Sample("labelled test texts", "executed", ("test",))
JUDGED = Sample("probe and test texts", "executed", ("probe", "test"))
COVERAGE = Sample("coverage inputs", "executed", ("coverage",))
UNROUNDED = Sample("probe and coverage inputs", "executed", ("probe", "coverage"))
EVERYTHING = Sample("inputs of all splits", "executed", ("probe", "test", "coverage"))
FORMS = Sample("probe texts in other forms", "executed", ("probe",))
CALIBRATION = Sample("calibration texts", "asked", ("calibration",))
OVERLAP = Sample("probe and test texts", "asked", ("probe", "test"))
ACTIVATIONS = Sample("activations", "asked")
MATRICES = Sample("weight matrices", "read")
ROUNDED = Sample("rounded weight matrices", "asked")
ELEMENTS = Sample("weight elements", "read")
OPERATORS = Sample("operators", "read")
ARTIFACT = Sample("artifacts", "always")
RUNS = Sample("timed runs", "timed")
PROCESS = Sample("processes", "timed")


@dataclass(frozen=True)
class Metric:
    """What a number means.

    Attributes:
        name: flat key, unit included where there is one.
        unit: the only unit a threshold may be given in.
        better: which direction is an improvement.
        low: smallest possible value.
        high: largest possible value.
        meaning: one phrase for the report.
        sample: what it is measured on.
        interval: how its 95 % interval is computed (`statistics`), empty where it has none.
        min_n: fewest items on which it says anything.
        positive: whether `low` itself is impossible: nothing takes no time and no bytes.
        group: what it tells of an artifact: how good its answers are, which each task says in metrics of its own; what
            it costs; or how near it is to its reference.
    """

    name: str
    unit: Unit
    better: Literal["higher", "lower"]
    low: float
    high: float
    meaning: str
    sample: Sample
    interval: Literal["", "proportion", "paired", "quantile", "mean"] = ""
    min_n: int = 1
    positive: bool = False
    group: Group = "parity"

    @property
    def is_rate(self) -> bool:
        """Whether it counts answers, so that its interval follows from how many there are."""
        return self.interval in ("proportion", "paired")

    def check_threshold(self, unit: str, *, at_least: float | None, at_most: float | None, min_n: int) -> None:
        """Refuse a bound in another unit, in the wrong direction, on too few items, or one that can never fire.

        Raises:
            ValueError: says which.
        """
        bound = at_least if at_least is not None else at_most
        if min_n < self.min_n:
            raise ValueError(f"'{self.name}' says nothing on {min_n} items: min_n must be {self.min_n} or more")
        if unit != self.unit:
            raise ValueError(f"'{self.name}' is measured in '{self.unit}', its threshold in '{unit}'")
        if (at_least is not None) != (self.better == "higher"):
            needed = "at_least" if self.better == "higher" else "at_most"
            raise ValueError(f"'{self.name}' is better {self.better}: use {needed}")
        fires = bound is not None and (
            self.low < bound <= self.high if at_least is not None else self.low <= bound < self.high
        )
        if not fires:
            raise ValueError(f"{bound} on '{self.name}' can never fire: its range is {self.low:g} to {self.high:g}")

    def impossible(self, value: object) -> str:
        """Return why something cannot be a value of this metric, or an empty string."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{self.name} is {value!r}, which is no number"
        if not isfinite(value):
            return f"{self.name} is {value}, which is no finite number"
        if not self.low <= value <= self.high or (self.positive and value == self.low):
            above = ", the lower end excluded" if self.positive else ""
            return f"{self.name} is {value:g}; its range is {self.low:g} to {self.high:g}{above}"
        if self.unit in ("count", "byte") and value != int(value):
            return f"{self.name} is {value:g}; it is counted in whole numbers"
        return ""


REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("max_abs_error", "logit", "lower", 0, inf, "largest logit difference to the reference", JUDGED),
        Metric(
            "relative_max_error", "ratio", "lower", 0, inf, "max_abs_error over the reference's logit spread", JUDGED
        ),
        Metric("mean_abs_error", "logit", "lower", 0, inf, "mean logit difference to the reference", TEST),
        Metric("cosine_similarity_min", "cosine", "higher", -1, 1, "worst cosine of an utterance's logits", JUDGED),
        Metric(
            "cosine_similarity_p01", "cosine", "higher", -1, 1, "cosine that 99 % of utterances reach", TEST, min_n=100
        ),
        Metric("kl_divergence_mean", "nat", "lower", 0, inf, "mean KL(reference ‖ artifact)", TEST),
        Metric("kl_divergence_max", "nat", "lower", 0, inf, "worst KL(reference ‖ artifact)", JUDGED),
        Metric(
            "coverage_relative_error", "ratio", "lower", 0, inf, "relative_max_error on the coverage inputs", COVERAGE
        ),
        Metric("coverage_kl_mean", "nat", "lower", 0, inf, "kl_divergence_mean on the coverage inputs", COVERAGE),
        Metric("coverage_agreement", "fraction", "higher", 0, 1, "top1_agreement on the coverage inputs", COVERAGE),
        Metric(
            "weight_cosine_min", "cosine", "higher", -1, 1, "worst match of a weight matrix in the artifact", MATRICES
        ),
        Metric(
            "weight_error_ratio_max",
            "ratio",
            "lower",
            0,
            inf,
            "worst error of a weight over what its own grid explains",
            ROUNDED,
        ),
        Metric(
            "weights_beyond_count", "count", "lower", 0, inf, "weight elements that rounding cannot explain", ELEMENTS
        ),
        Metric(
            "activations_beyond_count",
            "count",
            "lower",
            0,
            inf,
            "activations that their integers do not fit",
            ACTIVATIONS,
        ),
        Metric(
            "structure_difference_count",
            "count",
            "lower",
            0,
            inf,
            "operators and settings the conversion has not",
            OPERATORS,
        ),
        Metric(
            "conversion_weight_error_max",
            "ratio",
            "lower",
            0,
            inf,
            "worst element of a weight after conversion",
            MATRICES,
        ),
        Metric(
            "conversion_relative_max_error",
            "ratio",
            "lower",
            0,
            inf,
            "logit error before quantisation, over spread",
            UNROUNDED,
        ),
        Metric("form_relative_error", "ratio", "lower", 0, inf, "logit change when a text is padded or batched", FORMS),
        Metric(
            "calibration_overlap", "fraction", "lower", 0, 1, "share of test utterances seen in calibration", OVERLAP
        ),
        Metric(
            "calibration_agreement",
            "fraction",
            "higher",
            0,
            1,
            "equal answers when calibrated on either half",
            CALIBRATION,
        ),
        Metric(
            "top1_agreement",
            "fraction",
            "higher",
            0,
            1,
            "share of utterances with the reference's answer",
            TEST,
            "proportion",
            RATE_ITEMS,
        ),
        Metric("non_finite_count", "count", "lower", 0, inf, "logits that are NaN or infinite", EVERYTHING),
        Metric(
            "accuracy",
            "fraction",
            "higher",
            0,
            1,
            "share of right answers on the test split",
            LABELLED,
            "proportion",
            RATE_ITEMS,
            group="quality",
        ),
        Metric(
            "accuracy_drop_to_reference",
            "fraction",
            "lower",
            -1,
            1,
            "reference accuracy minus the artifact's",
            LABELLED,
            "paired",
            RATE_ITEMS,
            group="quality",
        ),
        Metric(
            "accuracy_drop_to_teacher",
            "fraction",
            "lower",
            -1,
            1,
            "teacher accuracy minus the artifact's",
            LABELLED,
            "paired",
            RATE_ITEMS,
            group="quality",
        ),
        Metric(
            "perplexity",
            "ratio",
            "lower",
            1,
            inf,
            "tokens as likely as the next one",
            LABELLED,
            "mean",
            group="quality",
        ),
        Metric(
            "bits_per_byte",
            "ratio",
            "lower",
            0,
            inf,
            "bits that the next byte costs",
            LABELLED,
            "mean",
            group="quality",
        ),
        *(
            Metric(name, "fraction", "lower", -1, inf, meaning, LABELLED, "mean", positive=True, group="quality")
            for name, meaning in (
                ("perplexity_increase_to_reference", "share by which perplexity is above the reference's"),
                ("perplexity_increase_to_teacher", "share by which perplexity is above the teacher's"),
            )
        ),
        *(
            Metric(
                f"{prefix}_p{percent}_ms",
                "ms",
                "lower",
                0,
                inf,
                f"{quantile} latency at the {length}, batch 1",
                RUNS,
                "quantile",
                positive=True,
                group="benchmark",
            )
            for prefix, length in (("latency", "true token length"), ("latency_full", "maximum length"))
            for percent, quantile in PERCENTILES.items()
        ),
        Metric(
            "load_time_ms",
            "ms",
            "lower",
            0,
            inf,
            "time to open the artifact, fresh process",
            PROCESS,
            positive=True,
            group="benchmark",
        ),
        Metric(
            "peak_rss_bytes",
            "byte",
            "lower",
            0,
            inf,
            "peak memory of a process that only runs the artifact",
            PROCESS,
            positive=True,
            group="benchmark",
        ),
        Metric("size_bytes", "byte", "lower", 0, inf, "artifact on disk", ARTIFACT, positive=True, group="benchmark"),
        Metric(
            "parameters",
            "count",
            "lower",
            0,
            inf,
            "weights of the compressed checkpoint",
            ARTIFACT,
            positive=True,
            group="benchmark",
        ),
        Metric(
            "macs",
            "count",
            "lower",
            0,
            inf,
            "multiply-accumulates at the maximum length",
            ARTIFACT,
            positive=True,
            group="benchmark",
        ),
    )
}
