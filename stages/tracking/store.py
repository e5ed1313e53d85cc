"""Write a record to an MLflow tracking server, once, and put right what it has otherwise.

Every run carries its record's fingerprint and is `FINISHED` only when whole; what a killed attempt left behind (run and
logged model) is deleted and written again. Nothing finished is deleted: a finished run that cannot be put right is
marked, and the record is written again beside it. Whoever writes is alone: a local database is locked as a file
(`place.opened`), a server by `turn`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from stages.tracking import wording
from stages.tracking.check import COMMIT, SUPERSEDED, Checker, Fault
from stages.tracking.content import Content, files_of, files_of_variant, of_build, of_variant, tags_of
from stages.tracking.errors import TrackingRefused, refusals
from stages.tracking.place import Place, plain
from stages.tracking.record import SHORT, Build, Variant
from stages.tracking.registry import NOTE, Registry
from stages.tracking.turn import turn

BATCH = 100
PARENT = "mlflow.parentRunId"
RESTORE = (
    "restore it (`mlflow experiments restore --experiment-id {}`, with MLFLOW_TRACKING_URI set to this place) "
    "or choose another MLFLOW_EXPERIMENT_NAME"
)


def publish(place: Place, build: Build, *, deep: bool = True) -> list[str]:
    """Write what is not there yet, or not as it should be.

    Args:
        place: the server or database.
        build: what it should have.
        deep: read a server's files too; else their names and sizes are compared.

    Returns:
        Names of what was written, with what was put right of it; empty when everything was there.

    Raises:
        TrackingRefused: the server or database cannot be used.
    """
    with refusals(place.name):
        return Store(place).publish(build, deep=deep)


def compare(place: Place, build: Build) -> list[tuple[str, Fault]]:
    """Hold what is there to a build, bytes included, and write nothing.

    Returns:
        Faults, each with the record that has it.

    Raises:
        TrackingRefused: the server or database cannot be used.
    """
    with refusals(place.name):
        client = connect(place)
        experiment = client.get_experiment_by_name(place.experiment)
        if experiment is None:
            return [("build", Fault(f"experiment {place.experiment}", "to be there", "nothing"))]
        checker = Checker(client, place, experiment.experiment_id, build, deep=True)
        found, links = [], {}
        for variant in build.variants:
            rated = [(run, checker.variant(run, variant)) for run in checker.finished(variant.fingerprint)]
            found += [(variant.key, fault) for _, faults in rated for fault in faults] or _missing(variant.key, rated)
            best = min(rated, key=lambda each: len(each[1]), default=None)
            links[variant.key] = _link(variant, experiment.experiment_id, best[0].info.run_id if best else "")
        builds = [(run, checker.build(run, links)) for run in checker.finished(build.fingerprint)]
        return found + ([("build", fault) for _, faults in builds for fault in faults] or _missing("build", builds))


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
    with refusals(place.name):
        registry = Registry(connect(place), place)
        return [key for key, chain in bundles.items() if registry.release(key, chain, tags.get(key, {}))]


def connect(place: Place) -> Any:
    """Return MLflow's client of a place."""
    import mlflow

    mlflow.set_tracking_uri(place.uri)
    mlflow.set_registry_uri(place.uri)
    return mlflow.MlflowClient(place.uri)


class Store:
    """An experiment on a tracking server."""

    def __init__(self, place: Place) -> None:
        """Open or create the experiment.

        Raises:
            TrackingRefused: somebody deleted the experiment; MLflow keeps it, and its name, until `mlflow gc`.
        """
        self.client, self.place = connect(place), place
        if self.client.get_experiment_by_name(place.experiment) is None:
            self._create_experiment(place.artifacts)
        found = self.client.get_experiment_by_name(place.experiment)
        self.experiment = found.experiment_id
        if found.lifecycle_stage == "deleted":
            said = f"its experiment '{place.experiment}' was deleted"
            raise TrackingRefused(place.name, said, RESTORE.format(self.experiment))
        if not self.experiment:
            raise TrackingRefused(place.name, "what it answers is no experiment", "name the root of an MLflow server")

    def publish(self, build: Build, *, deep: bool) -> list[str]:
        """Write what is not there yet; the names of what was written come back."""
        checker = Checker(self.client, self.place, self.experiment, build, deep=deep)
        if self.place.database is None and self._is_whole(checker, build):
            return []
        shared = self.place.database is None
        with turn(self.client, plain(self.place.experiment)) if shared else nullcontext() as held:
            return self._publish(build, checker, held.renew if held else lambda: None)

    def _create_experiment(self, artifacts: str | None) -> None:
        from mlflow.exceptions import MlflowException

        tags = {NOTE: wording.ABOUT_EXPERIMENT}
        try:
            self.client.create_experiment(self.place.experiment, artifact_location=artifacts, tags=tags)
        except MlflowException as error:  # another build was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _is_whole(self, checker: Checker, build: Build) -> bool:
        """Whether everything is there: a look that needs no turn."""
        links = {}
        for variant in build.variants:
            sound = [run for run in checker.finished(variant.fingerprint) if not checker.variant(run, variant)]
            if not sound:
                return False
            links[variant.key] = _link(variant, self.experiment, sound[0].info.run_id)
        return any(not checker.build(run, links) for run in checker.finished(build.fingerprint))

    def _publish(self, build: Build, checker: Checker, alive: Callable[[], None]) -> list[str]:
        for fingerprint in (build.fingerprint, *(variant.fingerprint for variant in build.variants)):
            self._discard_unfinished(checker, fingerprint)
        # What links of a build's description lead to is known in the end only.
        lasting = {run.info.run_id: checker.lasting(run) for run in checker.finished(build.fingerprint)}
        kept = [run for run, faults in lasting.items() if not faults]
        parent = kept[0] if kept else self._start(of_build(build), build)
        if not kept:
            self._fill_build(parent, build)
        written, links = [], {}
        for variant in build.variants:
            alive()
            run, said = self._settle(parent, checker, variant)
            written += said
            links[variant.key] = _link(variant, self.experiment, run)
        if not kept:
            before = self._before(parent, "tags.kind = 'build'")
            self.client.set_tag(parent, NOTE, wording.describe_build(build, links, before))
            self.client.set_terminated(parent)
        self._supersede(set(lasting) - {*kept}, parent)
        wrong = [fault for faults in lasting.values() for fault in faults]
        for run in kept or [parent]:
            wrong += self._mend_build(run, checker, links)
        return written if kept and not wrong else [_named("build", wrong), *written]

    def _settle(self, parent: str, checker: Checker, variant: Variant) -> tuple[str, list[str]]:
        """Have a variant's run as it should be: as it is, put right, or written; its id and what was done."""
        rated = {run.info.run_id: checker.variant(run, variant) for run in checker.finished(variant.fingerprint)}
        lost = [run for run, faults in rated.items() if any(fault.mend is None for fault in faults)]
        kept = [run for run in rated if run not in lost]
        for run in kept:
            self._mend(rated[run], partial(self._left, checker, run, variant))
            self._adopt(run, parent)
        wrong = [fault for faults in rated.values() for fault in faults]
        run = kept[0] if kept else self._publish_variant(parent, checker, variant)
        self._supersede(lost, run)
        return run, [_named(variant.key, wrong)] if wrong or not kept else []

    def _mend(self, faults: list[Fault], again: Callable[[], list[Fault]]) -> list[Fault]:
        """Put faults right, then look again.

        Raises:
            TrackingRefused: something is not kept as it was written.
        """
        for mend in dict.fromkeys(fault.mend for fault in faults if fault.mend):
            mend()
        left = again() if faults else []
        if left:
            said = f"it does not keep what it is told: {left[0].what} is '{left[0].found}', not '{left[0].expected}'"
            raise TrackingRefused(self.place.name, said, "choose another MLFLOW_EXPERIMENT_NAME")
        return faults

    def _mend_build(self, run: str, checker: Checker, links: Mapping[str, str]) -> list[Fault]:
        faults = checker.build(self.client.get_run(run), links)
        return self._mend(faults, lambda: checker.build(self.client.get_run(run), links))

    def _supersede(self, runs: Iterable[str], by: str) -> None:
        for run in runs:
            self.client.set_tag(run, SUPERSEDED, by)

    def _adopt(self, run: str, parent: str) -> None:
        """Make a run the child of a build that is there: its own may have been deleted, or never finished."""
        from mlflow.exceptions import MlflowException

        own = self.client.get_run(run).data.tags.get(PARENT, parent)
        try:
            build = self.client.get_run(own)
            is_there = build.info.lifecycle_stage == "active" and SUPERSEDED not in build.data.tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            is_there = False
        if not is_there:
            self.client.set_tag(run, PARENT, parent)

    def _before(self, run: str, like: str) -> str:
        """Say which finished run of its kind came before a run; empty where none did."""
        found = self.client.search_runs(
            [self.experiment], f"{like} AND status = 'FINISHED'", order_by=["attributes.start_time DESC"], max_results=1
        )
        earlier = [(one.info.run_name, one.info.run_id) for one in found]
        return wording.before(self.experiment, run, *earlier[0]) if earlier else ""

    def _discard_unfinished(self, checker: Checker, fingerprint: str) -> None:
        """Delete attempts at a record that were killed; only who writes alone can tell them from one under way.

        One that a registered version was made of had been finished.
        """
        for run in self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'"):
            if run.info.status != "FINISHED" and not checker.is_registered(run.info.run_id):
                self._discard(run.info.run_id)

    def _discard(self, run: str) -> None:
        models = self.client.search_logged_models([self.experiment], filter_string=f"source_run_id = '{run}'")
        for model in models:
            self.client.delete_logged_model(model.model_id)
        self.client.delete_run(run)

    def _start(self, content: Content, build: Build, **tags: str) -> str:
        own = {"rev": build.git["rev"][:SHORT], "dirty": build.git["dirty"], COMMIT: build.git["rev"], **tags}
        if self.place.job:
            own["job"] = self.place.job
        run = self.client.create_run(self.experiment, run_name=content.name, tags={**content.tags, **own})
        return str(run.info.run_id)

    def _fill_build(self, run: str, build: Build) -> None:
        content = of_build(build)
        self._log(run, content, build, _metrics(content))
        for path in files_of(build).values():
            self.client.log_artifact(run, str(path))

    def _log(self, run: str, content: Content, build: Build, metrics: list[Any]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run, metrics=metrics)
        params = [Param(key, value) for key, value in content.params.items()]
        for start in range(0, len(params), BATCH):
            self.client.log_batch(run, params=params[start : start + BATCH])
        self.client.log_inputs(run, datasets=_datasets(content, build))

    def _publish_variant(self, parent: str, checker: Checker, variant: Variant) -> str:
        """Write a variant's run and model, then the version: what a version names is finished, whatever is killed."""
        build = checker.source
        content = of_variant(build, variant)
        run = self._start(content, build, **{PARENT: parent})
        model = self._create_model(run, variant, content, build)
        before = self._before(run, f"tags.variant = '{variant.key}'")
        description = wording.describe(variant, build, f"models:/{model}", before)
        self.client.set_tag(run, NOTE, description)
        self.client.set_logged_model_tags(model, {NOTE: description})
        self._log(run, content, build, _metrics(content, build, run, model))
        self._attach(run, model, variant)
        self.client.set_terminated(run)
        self._mend(checker.variant(self.client.get_run(run), variant), partial(self._left, checker, run, variant))
        return run

    def _left(self, checker: Checker, run: str, variant: Variant) -> list[Fault]:
        return checker.variant(self.client.get_run(run), variant)

    def _create_model(self, run: str, variant: Variant, content: Content, build: Build) -> str:
        model = self.client.create_logged_model(
            self.experiment,
            name=variant.key,
            source_run_id=run,
            tags={**tags_of(variant), COMMIT: build.git["rev"]},
            params=dict(content.params),
            model_type=variant.verdict["target"],
        )
        return str(model.model_id)

    def _attach(self, run: str, model: str, variant: Variant) -> None:
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        self.client.log_outputs(run, [LoggedModelOutput(model, 0)])
        self.client.log_model_artifacts(model, str(variant.artifact))
        with tempfile.TemporaryDirectory() as scratch:
            for path in files_of_variant(variant, Path(scratch)).values():
                self.client.log_artifact(run, str(path))
        self.client.finalize_logged_model(model, LoggedModelStatus.READY)


def _named(name: str, faults: list[Fault]) -> str:
    """Name what was written, and what had been wrong with what was there."""
    wrong = sorted({fault.what for fault in faults})
    return f"{name} ({', '.join(wrong)})" if wrong else name


def _missing(name: str, rated: list[Any]) -> list[tuple[str, Fault]]:
    return [] if rated else [(name, Fault("its run", "a finished run", "none"))]


def _link(variant: Variant, experiment: str, run: str) -> str:
    return wording.run_link(variant.key, experiment, run)


def _datasets(content: Content, build: Build) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for each in content.inputs:
        source = json.dumps({"path": each.path, "sha256": each.sha256, "git_rev": build.git["rev"]})
        data = Dataset(each.name, each.sha256[:SHORT], "dvc", source, profile=each.profile)
        found.append(DatasetInput(data, [InputTag("mlflow.data.context", each.role)]))
    return found


def _metrics(content: Content, build: Build | None = None, run: str = "", model: str = "") -> list[Any]:
    """Quality belongs to the test split; parity's extremes are taken over test and probe, so they name neither."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    if build is None:
        return [Metric(key, value, now, 0) for key, value in content.metrics.items()]
    test = next(split for split in build.splits if split.role == "test")
    on_test = {"dataset_name": test.name, "dataset_digest": test.digest[:SHORT]}
    return [
        Metric(key, value, now, 0, model_id=model, run_id=run, **(on_test if key.startswith("quality/") else {}))
        for key, value in content.metrics.items()
    ]
