"""The registry of metrics, once, for stages, gates and the report."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from stages.measure.metric import RATE_ITEMS, Better, Interval, Metric, Sample, Unit

PERCENTILES = {50: "median", 90: "90th percentile", 99: "99th percentile"}  # of latencies

TEST = Sample("test texts", "executed", ("test",))
VALIDATED = Sample("labelled validation texts", "asked")
LABELLED = Sample("labelled test texts", "executed", ("test",))
JUDGED = Sample("probe and test texts", "executed", ("probe", "test"))
COVERAGE = Sample("coverage inputs", "executed", ("coverage",))
UNROUNDED = Sample("probe and coverage inputs", "executed", ("probe", "coverage"))
EVERYTHING = Sample("inputs of all splits", "executed", ("probe", "test", "coverage"))
FORMS = Sample("probe texts in other forms", "executed", ("probe",))
CALIBRATION = Sample("calibration texts", "asked", ("calibration",))
OVERLAP = Sample("probe and test texts", "asked", ("probe", "test"))
WRITTEN = Sample("texts", "asked")
ACTIVATIONS = Sample("activations", "asked")
MATRICES = Sample("weight matrices", "read")
ROUNDED = Sample("rounded weight matrices", "asked")
ELEMENTS = Sample("weight elements", "read")
OPERATORS = Sample("operators", "read")
ARTIFACT = Sample("artifacts", "always")
RUNS = Sample("timed runs", "timed")
PROCESS = Sample("processes", "timed")
CACHE = Sample("caches", "timed")
WALKED = Sample("operators", "asked")


SPEEDS: tuple[tuple[str, Unit, Better, str], ...] = (
    ("time_to_first_token_ms", "ms", "lower", "median time from a prompt of the maximum length to its next token"),
    ("prefill_tokens_per_s", "token/s", "higher", "tokens of a prompt of the maximum length, at the median"),
    ("decode_tokens_per_s", "token/s", "higher", "tokens one by one, from an empty cache, at the median"),
    ("decode_half_tokens_per_s", "token/s", "higher", "tokens one by one, behind half of the room"),
    ("decode_full_tokens_per_s", "token/s", "higher", "tokens one by one, the last that the cache has room for"),
)
"""Of language models: name, unit, direction, meaning."""

ACCELERATORS = (
    *(f"nnapi_{level}" for level in (27, 28, 29, 30, 31, "fl6", "fl7", "fl8")),
    "litert_xnnpack",
    "tflite_gpu",
    "litert_gpu",
    "litert_qnn",
    "tflite_micro",
    *(f"ort_{provider}" for provider in ("cpu", "xnnpack", "nnapi", "coreml", "qnn")),
    "neural_engine",
    "metal_gpu",
    "coreml_cpu",
)
"""All that may execute parts of an artifact, of every target; `stages/accelerators` says what each takes."""


def accelerated(accelerator: str) -> tuple[str, str]:
    """Name the metrics of what an accelerator takes: the share of multiply-accumulates, and the number of parts."""
    return f"{accelerator}_macs", f"{accelerator}_partitions"


def _covered() -> Iterator[tuple[str, Unit, Better, float, str]]:
    for one in ACCELERATORS:
        share, parts = accelerated(one)
        yield share, "fraction", "higher", 1, f"multiply-accumulates that {one} takes"
        yield parts, "count", "lower", inf, f"parts of the graph that {one} executes"
    yield "activation_bytes", "byte", "lower", inf, "activations alive at once, where no operator works in place"
    yield "ios_version_min", "version", "lower", inf, "oldest iOS that opens the artifact"


ACCURACIES: tuple[tuple[str, Better, Interval, str], ...] = (
    ("accuracy", "higher", "proportion", "share of right answers on the test split"),
    ("accuracy_drop_to_reference", "lower", "paired", "reference accuracy minus the artifact's"),
    ("accuracy_drop_to_teacher", "lower", "paired", "teacher accuracy minus the artifact's"),
    ("accuracy_kept_of_teacher", "higher", "derived", "the artifact's accuracy over the teacher's"),
    ("validation_kept_of_teacher", "higher", "derived", "what the student keeps of the teacher's on validation"),
    ("accuracy_over_bar", "higher", "derived", "the artifact's accuracy minus the honesty bar's"),
)
"""Of classifiers: name, direction, how its interval is computed, meaning."""


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
        Metric("greedy_divergent_count", "count", "lower", 0, inf, "other tokens in greedy text, ties aside", WRITTEN),
        Metric(
            "greedy_equal_share",
            "fraction",
            "higher",
            0,
            1,
            "share of greedy text before the first other token",
            WRITTEN,
        ),
        *(
            Metric(
                name,
                "fraction",
                better,
                -1 if interval == "paired" or name == "accuracy_over_bar" else 0,
                inf if name.endswith("_kept_of_teacher") else 1,
                meaning,
                VALIDATED if name.startswith("validation") else LABELLED,
                interval,
                RATE_ITEMS,
                group="quality",
            )
            for name, better, interval, meaning in ACCURACIES
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
        *(
            Metric(name, unit, better, 0, inf, meaning, RUNS, "quantile", positive=True, group="benchmark")
            for name, unit, better, meaning in SPEEDS
        ),
        Metric(
            "cache_bytes_per_token",
            "byte",
            "lower",
            0,
            inf,
            "keys and values that a token leaves behind",
            CACHE,
            positive=True,
            group="benchmark",
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
        *(
            Metric(name, unit, better, 0, high, meaning, WALKED, positive=unit == "byte", group="coverage")
            for name, unit, better, high, meaning in _covered()
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
