"""Stop a job once no device can use what it builds: what is cheap to know is asked before what is costly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.core.artifact import read_json
from stages.schema.layout import place
from stages.sweeping.pipeline import Pipeline
from stages.sweeping.settings import Profile
from stages.tasks.facts import facts

WEIGHTS = "weight_cosine_min"


class Screen:
    """What is known of a job's variants, and which budgets that breaks.

    Attributes:
        values: variant → metric → number, as far as the job came.
        refusals: variant → why no profile can use it.
    """

    def __init__(self, pipeline: Pipeline, tree: Mapping[str, Any], profiles: Mapping[str, Profile]) -> None:
        """Begin with nothing known.

        Args:
            pipeline: the job's.
            tree: its parameters.
            profiles: devices; none screens nothing out.
        """
        self.pipeline, self.tree, self.profiles = pipeline, tree, profiles
        self.values: dict[str, dict[str, float]] = {key: {} for key in tree["variants"]}
        self.refusals: dict[str, str] = {}

    def is_useless(self, stage: Any) -> bool:
        """Take note of what a stage measured; True once every variant is refused by every profile of its platform.

        What only the benchmark tells stops nothing: nothing costly comes after it.
        """
        name, _, variant = stage.name.partition("@")
        if name == "distill":
            return self._take(self._student(), self.values)
        if name not in ("quantize", "coverage", "parity"):
            return False
        values = self._artifact(variant) if name == "quantize" else self._metrics(name, variant)
        return self._take(values, [variant])

    def _take(self, values: Mapping[str, float], variants: Iterable[str]) -> bool:
        """Take up what was measured of some variants, and say whether every variant is refused by now."""
        for variant in variants:
            self.values[variant] |= values
            reason = self._refusal(variant)
            if reason:
                self.refusals[variant] = reason
        return len(self.refusals) == len(self.values)

    def _student(self) -> dict[str, float]:
        """Return what students are chosen by, which is known before anything is lowered."""
        metric = facts(self.tree["task"]["name"]).PRIMARY.on_validation
        scores = self.pipeline.json(f"{place(Path('build'), 'student').as_posix()}/evaluation.json") if metric else {}
        return {metric: scores[metric]} if metric in scores else {}

    def _artifact(self, variant: str) -> dict[str, float]:
        values = {"size_bytes": float(self.pipeline.size_bytes(self._place("artifact", variant), "model."))}
        if any(budget.metric == WEIGHTS for profile in self._of(variant).values() for budget in profile.budgets):
            values[WEIGHTS] = self._weight_cosine(variant)
        return values

    def _weight_cosine(self, variant: str) -> float:
        """Compare the weights as parity will; it takes a second, and parity minutes."""
        from safetensors.numpy import load_file

        from stages.measure.matching import match
        from stages.models.families import family_of
        from stages.targets import registry

        chosen = self.tree["variants"][variant]
        artifact = self.pipeline.check_out(self._place("artifact", variant))
        checkpoint = self.pipeline.check_out(self._place("compressed", variant))
        stored = registry.weights(chosen["target"]).weights(artifact)
        tensors = load_file(checkpoint / "model.safetensors")
        config = read_json(checkpoint / "config.json")
        first = family_of(config).first_row(config)
        found = match(tensors, stored, positions=self.tree["task"]["max_length"], first=first)
        return min(pair.cosine for pair in found.values())

    def _metrics(self, stage: str, variant: str) -> dict[str, float]:
        found = self.pipeline.json(f"{self._place(stage, variant)}/metrics.json")
        groups = (found.get("weights"), found.get("test"), found)
        return {name: value for group in groups if group for name, value in group.get("values", {}).items()}

    def _place(self, role: str, variant: str) -> str:
        chosen = self.tree["variants"][variant]
        names = {"variant": variant, "compression": chosen["compression"], "target": chosen["target"]}
        return place(Path("build"), role, **names).as_posix()

    def _of(self, variant: str) -> dict[str, Profile]:
        target = self.tree["variants"][variant]["target"]
        return {name: profile for name, profile in self.profiles.items() if profile.target == target}

    def _refusal(self, variant: str) -> str:
        """Return why no profile can use a variant, or an empty string when one can or its platform has none."""
        reasons = {
            name: next(filter(None, (budget.broken_by(self.values[variant]) for budget in profile.budgets)), "")
            for name, profile in self._of(variant).items()
        }
        if not reasons or not all(reasons.values()):
            return ""
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
