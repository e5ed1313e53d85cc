"""Write a record to an MLflow tracking server, once.

Every run carries its record's fingerprint and is `FINISHED` only when whole; what a killed attempt left behind (run,
logged model, registered version) is deleted and written again. Whoever writes is alone: a local database is locked as
a file (`place.opened`), a server by `turn`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stages.core.artifact import write_json
from stages.tracking import wording
from stages.tracking.errors import TrackingRefused
from stages.tracking.place import Place, registered
from stages.tracking.record import SHORT, Build, Split, Variant
from stages.tracking.turn import turn

# A longer value is no parameter but a document: params.yaml, which is attached whole, has it.
PARAM_LIMIT = 500
BATCH = 100
CANDIDATE, RELEASED = "candidate", "released"
MEASURED_ON = ("calibration", "probe", "test")


def publish(place: Place, build: Build) -> list[str]:
    """Write what is not there yet.

    Returns:
        Names of what was written; empty when everything was there.

    Raises:
        TrackingRefused: the server or database cannot be used.
    """
    from mlflow.exceptions import MlflowException

    try:
        return Store(place).publish(build)
    except MlflowException as error:
        raise TrackingRefused(place.uri, error.message) from error
    except ModuleNotFoundError as error:
        raise TrackingRefused(place.uri, f"its database driver is not installed ({error})") from error


def promote(place: Place, bundles: Mapping[str, Mapping[str, str]], tags: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Move the alias `released` to the versions that bundles were made of, and tag these.

    Args:
        place: where the build was tracked.
        bundles: variant → its chain, stage → sha256 of that stage's manifest.
        tags: variant → what else its version says of the bundle.

    Returns:
        Variants whose alias moved. One that has no such version (it ships unmeasured, or is not tracked) is left out.

    Raises:
        TrackingRefused: the server or database cannot be used.
    """
    from mlflow.exceptions import MlflowException

    try:
        store = Store(place)
        return [key for key, chain in bundles.items() if store.release(key, chain, tags.get(key, {}))]
    except MlflowException as error:
        raise TrackingRefused(place.uri, error.message) from error


class Store:
    """An experiment on a tracking server."""

    def __init__(self, place: Place) -> None:
        """Open or create the experiment."""
        import mlflow

        mlflow.set_tracking_uri(place.uri)
        mlflow.set_registry_uri(place.uri)
        self.client = mlflow.MlflowClient(place.uri)
        self.name = place.experiment
        self.shared = place.database is None
        if self.client.get_experiment_by_name(self.name) is None:
            self._create_experiment(place.artifacts)
        self.experiment = self.client.get_experiment_by_name(self.name).experiment_id

    def publish(self, build: Build) -> list[str]:
        """Write what is not there yet; the names of what was written come back."""
        fingerprints = [build.fingerprint, *(variant.fingerprint for variant in build.variants)]
        if all(self._finished(fingerprint) for fingerprint in fingerprints):
            return []
        with turn(self.client, self.name) if self.shared else nullcontext() as held:
            return self._publish(build, held.renew if held else lambda: None)

    def _create_experiment(self, artifacts: str | None) -> None:
        from mlflow.exceptions import MlflowException

        tags = {"mlflow.note.content": wording.ABOUT_EXPERIMENT}
        try:
            self.client.create_experiment(self.name, artifact_location=artifacts, tags=tags)
        except MlflowException as error:  # another build was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _publish(self, build: Build, alive: Callable[[], None]) -> list[str]:
        for fingerprint in (build.fingerprint, *(variant.fingerprint for variant in build.variants)):
            self._discard_unfinished(fingerprint)
        written = []
        parent = self._finished(build.fingerprint)
        fresh = parent is None
        if parent is None:
            parent = self._start(wording.build_name(build), build.fingerprint, "build", build)
            self._fill_build(parent, build)
            written.append("build")
        runs = {}
        for variant in build.variants:
            alive()
            found = self._finished(variant.fingerprint)
            if found is None:
                found = self._publish_variant(parent, build, variant)
                written.append(variant.key)
            runs[variant.key] = found
        if fresh:
            before = self._before(parent, "tags.kind = 'build'")
            links = {key: wording.run_link(key, self.experiment, run) for key, run in runs.items()}
            self.client.set_tag(parent, "mlflow.note.content", wording.describe_build(build, links, before))
            self.client.set_terminated(parent)
        return written

    def _before(self, run: str, like: str) -> str:
        """Say which finished run of its kind came before a run; empty where none did."""
        found = self.client.search_runs(
            [self.experiment], f"{like} AND status = 'FINISHED'", order_by=["attributes.start_time DESC"], max_results=1
        )
        earlier = [(one.info.run_name, one.info.run_id) for one in found]
        return wording.before(self.experiment, run, *earlier[0]) if earlier else ""

    def _runs(self, fingerprint: str) -> list[Any]:
        return list(self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'"))

    def _finished(self, fingerprint: str) -> str | None:
        """Return the id of the finished run of a record."""
        return next((run.info.run_id for run in self._runs(fingerprint) if run.info.status == "FINISHED"), None)

    def _discard_unfinished(self, fingerprint: str) -> None:
        """Delete attempts at a record that were killed; only who writes alone can tell them from one under way."""
        for run in self._runs(fingerprint):
            if run.info.status != "FINISHED":
                self._discard(run.info.run_id)

    def _discard(self, run: str) -> None:
        models = self.client.search_logged_models([self.experiment], filter_string=f"source_run_id = '{run}'")
        for model in models:
            self.client.delete_logged_model(model.model_id)
        self.client.delete_run(run)

    def _start(self, name: str, fingerprint: str, kind: str, build: Build, **tags: str) -> str:
        run = self.client.create_run(
            self.experiment,
            run_name=name,
            # In MLflow's pages tags stand in this order.
            tags={
                **tags,
                "rev": build.git["rev"][:SHORT],
                "dirty": build.git["dirty"],
                "kind": kind,
                "fingerprint": fingerprint,
                **_source(build),
            },
        )
        return str(run.info.run_id)

    def _fill_build(self, run: str, build: Build) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        self.client.log_batch(run, metrics=[Metric(key, value, now, 0) for key, value in build.metrics.items()])
        params = [Param(key, value) for key, value in build.params.items() if len(value) <= PARAM_LIMIT]
        for start in range(0, len(params), BATCH):
            self.client.log_batch(run, params=params[start : start + BATCH])
        self._log_inputs(run, build, build.splits)
        for path in build.files:
            self.client.log_artifact(run, str(path))

    def _publish_variant(self, parent: str, build: Build, variant: Variant) -> str:
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Param

        params = {key: value for key, value in variant.params.items() if len(value) <= PARAM_LIMIT}
        tags = _tags(variant)
        run = self._start(
            wording.run_name(variant),
            variant.fingerprint,
            "variant",
            build,
            **tags,
            **{"variant": variant.key, "mlflow.parentRunId": parent},
        )
        model = self.client.create_logged_model(
            self.experiment,
            name=variant.key,
            source_run_id=run,
            tags={**tags, **_source(build)},
            params=params,
            model_type=variant.verdict["target"],
        ).model_id
        before = self._before(run, f"tags.variant = '{variant.key}'")
        description = wording.describe(variant, build, f"models:/{model}", before)
        self.client.set_tag(run, "mlflow.note.content", description)
        self.client.set_logged_model_tags(model, {"mlflow.note.content": description})
        self.client.log_batch(
            run,
            metrics=_metrics(variant, build, run, model),
            params=[Param(key, value) for key, value in params.items()],
        )
        self._log_inputs(run, build, [split for split in build.splits if split.role in MEASURED_ON])
        self.client.log_outputs(run, [LoggedModelOutput(model, 0)])
        self.client.log_model_artifacts(model, str(variant.artifact))
        with tempfile.TemporaryDirectory() as scratch:
            write_json(Path(scratch) / "lineage.json", {"chain": dict(variant.chain), "verdict": dict(variant.verdict)})
            self.client.log_artifacts(run, scratch)
        self.client.finalize_logged_model(model, LoggedModelStatus.READY)
        if variant.verdict["verdict"] == "pass":
            self._register(variant, run, model, description)
        self.client.set_terminated(run)
        return run

    def release(self, key: str, chain: Mapping[str, str], tags: Mapping[str, str]) -> bool:
        """Point `released` at a variant's newest version of exactly this chain, and tag it; whether it moved."""
        name = registered(self.name, key)
        versions = self.client.search_model_versions(f"name = '{name}'")
        same = [version for version in versions if chain.items() <= version.tags.items()]
        if not same:
            return False
        newest = max(same, key=lambda version: int(version.version))
        for tag, value in tags.items():
            if newest.tags.get(tag) != value:
                self.client.set_model_version_tag(name, newest.version, tag, value)
        if RELEASED in newest.aliases:
            return False
        self.client.set_registered_model_alias(name, RELEASED, newest.version)
        return True

    def _register(self, variant: Variant, run: str, model: str, description: str) -> None:
        """Register a passing variant and move its alias; a version that a killed attempt left is replaced."""
        from mlflow.exceptions import MlflowException

        name = registered(self.name, variant.key)
        try:
            self.client.create_registered_model(name, description=wording.describe_registered(variant))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self.client.search_model_versions(f"name = '{name}'"):
            if version.tags.get("fingerprint") == variant.fingerprint:
                self.client.delete_model_version(name, version.version)
        version = self.client.create_model_version(
            name,
            source=f"models:/{model}",
            run_id=run,
            model_id=model,
            tags={"fingerprint": variant.fingerprint, **_tags(variant)},
            description=description,
        )
        # Without this tag the model's page says "Not registered" (create_model_version alone does not link back).
        link = json.dumps([{"name": name, "version": int(version.version)}])
        self.client.set_logged_model_tags(model, {"mlflow.modelVersions": link})
        self.client.set_registered_model_alias(name, CANDIDATE, version.version)

    def _log_inputs(self, run: str, build: Build, splits: list[Split]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        def entry(name: str, role: str, digest: str, path: str, count: int | None) -> Any:
            source = json.dumps({"path": path, "sha256": digest, "git_rev": build.git["rev"]})
            profile = None if count is None else json.dumps({"num_rows": count})
            return DatasetInput(
                Dataset(name, digest[:SHORT], "dvc", source, profile=profile), [InputTag("mlflow.data.context", role)]
            )

        inputs = [
            entry(split.name, split.role, split.digest, f"build/data/{split.role}.jsonl", split.count)
            for split in reversed(splits)
        ]
        inputs.append(entry("teacher", "teacher", build.teacher, "build/teacher/manifest.json", None))
        self.client.log_inputs(run, datasets=inputs)


def _tags(variant: Variant) -> dict[str, str]:
    """Short keys, the verdict first: MLflow cuts tags at a line's end and keys at about twelve characters."""
    verdict = variant.verdict
    return {
        "verdict": verdict["verdict"],
        "runtime": verdict["runtime"] or "none",
        **{key: text[:PARAM_LIMIT] for key, text in {
            "reasons": "; ".join(verdict["reasons"]),
            "dominated": verdict["dominated"],
            "notes": "; ".join(verdict["notes"]),
            "no_latency": "" if "latency_p50_ms" in verdict["metrics"] else verdict["timing"],
            "host": variant.host,
            "tools": variant.tools,
        }.items() if text},
        **{stage: sha[:SHORT] for stage, sha in variant.chain.items()},
    }  # fmt: skip


def _source(build: Build) -> dict[str, str]:
    return {
        "mlflow.source.git.commit": build.git["rev"],
        "mlflow.source.name": "dvc repro",
        "mlflow.source.type": "PROJECT",
    }


def _metrics(variant: Variant, build: Build, run: str, model: str) -> list[Any]:
    """Quality belongs to the test split; parity's extremes are taken over test and probe, so they name neither."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    test = next(split for split in build.splits if split.role == "test")
    on_test = {"dataset_name": test.name, "dataset_digest": test.digest[:SHORT]}
    return [
        Metric(key, value, now, 0, model_id=model, run_id=run, **(on_test if key.startswith("quality/") else {}))
        for key, value in variant.metrics.items()
    ]
