"""Write a record to an MLflow tracking server, once.

Every run carries its record's fingerprint and is `FINISHED` only when whole; a run left unfinished by a kill is deleted
and written again.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.core.artifact import write_json
from stages.tracking.record import SHORT, Build, Variant, describe

EXPERIMENT = "tinsmith"
# Files attached to the parent run carry text that MLflow shows; more than this is no parameter but a document.
PARAM_LIMIT = 500
BATCH = 100


def recorded_in_sqlite(database: Path, fingerprints: Iterable[str]) -> bool:
    """Whether a local database holds a finished run of every fingerprint.

    Importing MLflow costs about 3 s of CPU; asking its database first keeps a no-op `dvc repro` quick. Any doubt
    (no file, another schema) is answered with False, and MLflow itself decides.
    """
    if not database.is_file():
        return False
    query = (
        "SELECT DISTINCT t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
        "WHERE t.key = 'fingerprint' AND r.status = 'FINISHED' AND r.lifecycle_stage = 'active'"
    )
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            have = {row[0] for row in connection.execute(query)}
    except sqlite3.Error:
        return False
    return set(fingerprints) <= have


class Store:
    """An experiment on a tracking server."""

    def __init__(self, uri: str, artifacts: str | None) -> None:
        """Open or create the experiment.

        Args:
            uri: tracking URI.
            artifacts: where a new experiment's artifacts go; None leaves it to the server.
        """
        import mlflow

        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        self.client = mlflow.MlflowClient(uri)
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        self.experiment = (
            experiment.experiment_id
            if experiment
            else self.client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        )

    def finished(self, fingerprint: str) -> str | None:
        """Return the id of the finished run of a record, deleting unfinished attempts at it."""
        runs = self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'")
        found = None
        for run in runs:
            if run.info.status == "FINISHED":
                found = run.info.run_id
            else:
                self.client.delete_run(run.info.run_id)
        return found

    def publish(self, build: Build) -> list[str]:
        """Write what is not there yet.

        Returns:
            Names of the runs written; empty when everything was there.
        """
        written = []
        parent = self.finished(build.fingerprint)
        fresh = parent is None
        if parent is None:
            parent = self._start(f"build {build.fingerprint[:8]}", build.fingerprint, "build", build)
            self._fill_build(parent, build)
            written.append("build")
        for variant in build.variants:
            if self.finished(variant.fingerprint) is None:
                self._publish_variant(parent, build, variant)
                written.append(variant.key)
        if fresh:
            self.client.set_terminated(parent)
        return written

    def _start(self, name: str, fingerprint: str, kind: str, build: Build, **tags: str) -> str:
        run = self.client.create_run(
            self.experiment,
            run_name=name,
            tags={
                "dirty": build.git["dirty"],
                "fingerprint": fingerprint,
                "kind": kind,
                "mlflow.source.git.commit": build.git["rev"],
                "mlflow.source.name": "dvc repro",
                "mlflow.source.type": "PROJECT",
                "rev": build.git["rev"][:SHORT],
                **tags,
            },
        )
        return str(run.info.run_id)

    def _fill_build(self, run: str, build: Build) -> None:
        from mlflow.entities import Metric, Param

        verdicts = [variant.verdict["verdict"] for variant in build.variants]
        counts = {name: float(verdicts.count(name)) for name in ("pass", "fail", "not_measured")}
        now = int(time.time() * 1000)
        self.client.log_batch(
            run, metrics=[Metric(key, value, now, 0) for key, value in (build.evaluations | counts).items()]
        )
        params = [Param(key, value) for key, value in build.params.items() if len(value) <= PARAM_LIMIT]
        for start in range(0, len(params), BATCH):
            self.client.log_batch(run, params=params[start : start + BATCH])
        self._log_inputs(run, build)
        for path in build.files:
            self.client.log_artifact(run, str(path))
        self.client.set_tag(run, "mlflow.note.content", _describe_build(build))

    def _publish_variant(self, parent: str, build: Build, variant: Variant) -> None:
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param

        verdict = variant.verdict
        digests = {stage: sha[:SHORT] for stage, sha in variant.chain.items()}
        axes = {name: verdict[name] for name in ("compression", "precision", "target")}
        tags = {
            "mlflow.note.content": describe(variant),
            "mlflow.parentRunId": parent,
            "reasons": "; ".join(verdict["reasons"])[:PARAM_LIMIT],
            "runtime": verdict["runtime"] or "none",
            "verdict": verdict["verdict"],
        }
        run = self._start(variant.key, variant.fingerprint, "variant", build, **tags, **digests)
        model = self.client.create_logged_model(
            self.experiment,
            name=variant.key,
            source_run_id=run,
            tags={"verdict": verdict["verdict"], **digests},
            params=axes,
            model_type=verdict["target"],
        )
        now = int(time.time() * 1000)
        values = dict(verdict["metrics"])
        for name, (low, high) in verdict["intervals"].items():
            values |= {f"{name}.low": low, f"{name}.high": high}
        self.client.log_batch(
            run,
            metrics=[Metric(key, float(value), now, 0, model_id=model.model_id) for key, value in values.items()],
            params=[Param(key, value) for key, value in axes.items()],
        )
        self._log_inputs(run, build)
        self.client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
        self.client.log_model_artifacts(model.model_id, str(variant.artifact))
        with tempfile.TemporaryDirectory() as scratch:
            write_json(Path(scratch) / "lineage.json", {"chain": dict(variant.chain), "verdict": dict(verdict)})
            self.client.log_artifacts(run, scratch)
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        if verdict["verdict"] == "pass":
            self._register(variant, run, model.model_id, digests)
        self.client.set_terminated(run)

    def _register(self, variant: Variant, run: str, model: str, digests: dict[str, str]) -> None:
        """Register a passing variant and move its alias; a version of the same bytes and proof is reused."""
        from mlflow.exceptions import MlflowException

        name = f"{EXPERIMENT}.{variant.key}"
        try:
            self.client.create_registered_model(name, description=f"Passing builds of {variant.key}.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = [
            version
            for version in self.client.search_model_versions(f"name = '{name}'")
            if version.tags.get("fingerprint") == variant.fingerprint
        ]
        version = (
            known[0]
            if known
            else self.client.create_model_version(
                name,
                source=f"models:/{model}",
                run_id=run,
                model_id=model,
                tags={"fingerprint": variant.fingerprint, **digests},
                description=describe(variant),
            )
        )
        # Without this tag the model's page says "Not registered" (create_model_version alone does not link back).
        link = json.dumps([{"name": name, "version": int(version.version)}])
        self.client.set_logged_model_tags(model, {"mlflow.modelVersions": link})
        self.client.set_registered_model_alias(name, "passing", version.version)

    def _log_inputs(self, run: str, build: Build) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        chain = build.variants[0].chain
        inputs: list[Any] = []
        for role in ("data", "teacher"):
            source = json.dumps({"path": f"build/{role}", "manifest_sha256": chain[role], "git_rev": build.git["rev"]})
            profile = json.dumps(build.data["counts"]) if role == "data" and "counts" in build.data else None
            dataset = Dataset(role, chain[role][:SHORT], "dvc", source, profile=profile)
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", role)]))
        self.client.log_inputs(run, datasets=inputs)


def _describe_build(build: Build) -> str:
    rows = "\n".join(f"| {variant.key} | {variant.verdict['verdict']} |" for variant in build.variants)
    dirty = ", with uncommitted changes" if build.git["dirty"] == "true" else ""
    return f"**Build** at `{build.git['rev'][:SHORT]}`{dirty}.\n\n| variant | verdict |\n|---|---|\n{rows}\n"
