"""Hold what MLflow has to what a build would write: an answer of its database is no proof.

Tags, names, descriptions, versions and files can be put right where they stand. Parameters, metrics, inputs and models
cannot: such a run stays as it is and the record is written again beside it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stages.core.artifact import sha256
from stages.tracking import stored, wording
from stages.tracking.content import Content, files_of, files_of_variant, of_build, of_variant, tags_of
from stages.tracking.moved import local
from stages.tracking.place import Place, registered
from stages.tracking.record import SHORT, Build, Variant
from stages.tracking.registry import NOTE, VERSIONS, Registry, link

COMMIT, SUPERSEDED = "mlflow.source.git.commit", "superseded"


@dataclass(frozen=True)
class Fault:
    """Something that MLflow has otherwise than the build would write it.

    Attributes:
        what: which field or file.
        expected: what the build would write.
        found: what is there.
        mend: puts it right; None where that cannot be done.
    """

    what: str
    expected: str
    found: str
    mend: Callable[[], object] | None = None


class Checker:
    """Compare runs with the records of a build.

    Attributes:
        client: `MlflowClient` of the place.
        experiment: the experiment's id.
        source: the build that they should hold.
    """

    def __init__(self, client: Any, place: Place, experiment: str, build: Build, *, deep: bool) -> None:
        """Say what is compared.

        Args:
            client: `MlflowClient` of the place.
            place: the server or database.
            experiment: the experiment's id.
            build: what MLflow should have.
            deep: download files of a server to compare their bytes, not only names and sizes; local ones always are.
        """
        self.client, self.place, self.experiment, self.source, self.deep = client, place, experiment, build, deep
        self.store = local(client.get_experiment(experiment).artifact_location)

    def finished(self, fingerprint: str) -> list[Any]:
        """Return the runs that claim to hold a record; one that a version was made of had been finished."""
        found = self.client.search_runs([self.experiment], f"tags.fingerprint = '{fingerprint}'")
        claims = [run for run in found if SUPERSEDED not in run.data.tags]
        return [run for run in claims if run.info.status == "FINISHED" or self.is_registered(run.info.run_id)]

    def is_registered(self, run: str) -> bool:
        """Whether a registered version was made of a run."""
        return bool(self.client.search_model_versions(f"run_id = '{run}'"))

    def lasting(self, run: Any) -> list[Fault]:
        """Return what is wrong with a build's run for good."""
        return [fault for fault in self._run(run, of_build(self.source)) if fault.mend is None]

    def build(self, run: Any, links: Mapping[str, str]) -> list[Fault]:
        """Compare a build's run; `links` are those of its variants' runs."""
        faults = [
            *self._run(run, of_build(self.source)),
            *self._files(run.info.artifact_uri, files_of(self.source), run),
        ]
        written = self._as_written(run)
        return faults + self._description(run, wording.describe_build(written, links, ""))

    def variant(self, run: Any, variant: Variant) -> list[Fault]:
        """Compare a variant's run, its model and its registered version."""
        faults = list(self._run(run, of_variant(self.source, variant)))
        with tempfile.TemporaryDirectory() as scratch:
            attached = files_of_variant(variant, Path(scratch))
            wrong = list(self._files(run.info.artifact_uri, attached, run))
        faults += [replace(fault, mend=partial(self._attach_lineage, run.info.run_id, variant)) for fault in wrong]
        model = self.model(run.info.run_id, variant)
        if model is None:
            return [*faults, Fault("its model", f"a logged model '{variant.key}'", "none")]
        description = wording.describe(variant, self._as_written(run), f"models:/{model.model_id}", "")
        faults += [*self._description(run, description), *self._model(model, variant, run, description)]
        if self.registers(variant):
            faults += self._version(run, model, variant, description)
        return faults

    def registers(self, variant: Variant) -> bool:
        """Whether a variant has a registered version: it passed, in the workspace's own build."""
        return variant.verdict["verdict"] == "pass" and not self.place.job

    def model(self, run: str, variant: Variant) -> Any | None:
        """Return a run's logged model."""
        found = self.client.search_logged_models([self.experiment], filter_string=f"source_run_id = '{run}'")
        return next((model for model in found if model.name == variant.key), None)

    def _as_written(self, run: Any) -> Build:
        """Return the build at the commit that a run was written at: the record is the same at any other."""
        return replace(self.source, git=self._git(run.data.tags))

    def _git(self, tags: Mapping[str, str]) -> dict[str, str]:
        if COMMIT not in tags or tags.get("dirty") not in ("true", "false", "unknown"):
            return dict(self.source.git)
        return {"dirty": tags["dirty"], "rev": tags[COMMIT]}

    def _run(self, run: Any, content: Content) -> Iterator[Fault]:
        identity, tags = run.info.run_id, run.data.tags
        if run.info.status != "FINISHED":
            yield Fault("status", "FINISHED", run.info.status, partial(self.client.set_terminated, identity))
        if run.info.run_name != content.name:
            rename = partial(self.client.update_run, identity, name=content.name)
            yield Fault("name", content.name, run.info.run_name, rename)
        git = self._git(tags)
        wanted = {**content.tags, COMMIT: git["rev"], "rev": git["rev"][:SHORT], "dirty": git["dirty"]}
        yield from _tags(tags, wanted, partial(self.client.set_tag, identity))
        place = local(run.info.artifact_uri)
        if self.store and place and not place.is_relative_to(self.store):  # of the workspace that this was copied from
            yield Fault("its files", f"below '{self.store}'", str(place))
        yield from _values("parameter", run.data.params, content.params)
        yield from _values("metric", run.data.metrics, content.metrics)
        wanted_inputs = {_named(each.name, each.role): _source(each.path, each.sha256) for each in content.inputs}
        yield from _values("input", dict(map(_input, run.inputs.dataset_inputs)), wanted_inputs)

    def _files(self, uri: str, wanted: Mapping[str, Path], run: Any) -> Iterator[Fault]:
        for name, expected, found in self._differing(uri, wanted):
            yield Fault(
                f"file {name}", expected, found, partial(self.client.log_artifact, run.info.run_id, str(wanted[name]))
            )

    def _differing(self, uri: str, wanted: Mapping[str, Path]) -> Iterator[tuple[str, str, str]]:
        """Compare stored files with local ones, by their bytes where that is cheap or asked for."""
        if self.deep or local(uri):
            expected = {name: sha256(path) for name, path in wanted.items()}
            found = stored.digests(uri)
        else:
            expected = {name: f"{path.stat().st_size} bytes" for name, path in wanted.items()}
            found = {name: f"{size} bytes" for name, size in stored.sizes(uri).items()}
        for name, value in expected.items():
            if found.get(name) != value:
                yield name, value, found.get(name, "nothing")

    def _attach_lineage(self, run: str, variant: Variant) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for path in files_of_variant(variant, Path(scratch)).values():
                self.client.log_artifact(run, str(path))

    def _description(self, run: Any, expected: str) -> list[Fault]:
        found = run.data.tags.get(NOTE, "")
        if _is_said(found, expected):
            return []
        return [Fault("description", expected, found, partial(self.client.set_tag, run.info.run_id, NOTE, expected))]

    def _model(self, model: Any, variant: Variant, run: Any, note: str) -> Iterator[Fault]:
        identity, content = model.model_id, of_variant(self.source, variant)

        def tag(key: str, value: str) -> None:
            self.client.set_logged_model_tags(identity, {key: value})

        if str(model.status) != "READY":
            finish = partial(self.client.finalize_logged_model, identity, "READY")
            yield Fault("model: status", "READY", str(model.status), finish)
        yield from _values("model: type", {"": model.model_type}, {"": variant.verdict["target"]})
        wanted = {**tags_of(variant), COMMIT: self._git(run.data.tags)["rev"]}
        yield from _named_model(_tags(model.tags, wanted, tag))
        said = model.tags.get(NOTE, "")
        if not _is_said(said, note):
            yield Fault("model: description", note, said, partial(tag, NOTE, note))
        yield from _named_model(_values("parameter", model.params, content.params))
        yield from _named_model(
            _values("metric", {each.key: each.value for each in model.metrics or []}, content.metrics)
        )
        yield from self._artifact(model, variant)

    def _artifact(self, model: Any, variant: Variant) -> Iterator[Fault]:
        paths = (path for path in variant.artifact.rglob("*") if path.is_file())
        wanted = {path.relative_to(variant.artifact).as_posix(): path for path in paths}
        again = partial(self.client.log_model_artifacts, model.model_id, str(variant.artifact))
        for name, expected, found in self._differing(model.artifact_location, wanted):
            yield Fault(f"model: file {name}", expected, found, again)
        if local(model.artifact_location) or self.deep:
            for name in sorted(set(stored.digests(model.artifact_location)) - set(wanted)):
                yield Fault(f"model: file {name}", "nothing", "a file that is none of the artifact's")

    def _version(self, run: Any, model: Any, variant: Variant, note: str) -> Iterator[Fault]:
        name, source = registered(self.place.experiment, variant.key), f"models:/{model.model_id}"
        found = self.client.search_model_versions(f"run_id = '{run.info.run_id}'")
        versions = [version for version in found if (version.name, version.source) == (name, source)]
        if not versions:
            register = partial(Registry(self.client, self.place).register, variant, run, model)
            yield Fault("registered version", f"one of '{name}' that is {source}", "none", register)
            return
        version = max(versions, key=lambda each: int(each.version))
        number = str(version.version)

        def tag(key: str, value: str) -> None:
            self.client.set_model_version_tag(name, number, key, value)

        for fault in _tags(version.tags, {"fingerprint": variant.fingerprint, **tags_of(variant)}, tag):
            yield replace(fault, what=f"version {number}: {fault.what}")
        if not _is_said(version.description or "", note):
            describe = partial(self.client.update_model_version, name, number, note)
            yield Fault(f"version {number}: description", note, str(version.description), describe)
        about, expected = wording.describe_registered(variant), link(name, number)
        said = self.client.get_registered_model(name).description
        if not _is_said(said or "", about):
            describe = partial(self.client.update_registered_model, name, about)
            yield Fault("registered model: description", about, str(said), describe)
        if model.tags.get(VERSIONS) != expected:  # written last: without it the alias may never have been set
            point = partial(Registry(self.client, self.place).point, name, number, model.model_id)
            yield Fault("model: link to its version", expected, str(model.tags.get(VERSIONS)), point)


def _tags(found: Mapping[str, str], wanted: Mapping[str, Any], tag: Callable[[str, str], object]) -> Iterator[Fault]:
    for key, value in wanted.items():
        if found.get(key) != value:
            yield Fault(f"tag {key}", str(value), str(found.get(key, "nothing")), partial(tag, key, str(value)))


def _values(kind: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Fault]:
    for key, value in wanted.items():
        if found.get(key) != value:
            yield Fault(f"{kind} {key}".strip(), str(value), str(found.get(key, "nothing")))


def _named_model(faults: Iterator[Fault]) -> Iterator[Fault]:
    for fault in faults:
        yield replace(fault, what=f"model: {fault.what}")


def _is_said(found: str, expected: str) -> bool:
    """Whether a description says what it should; people may have written something below it."""
    return wording.without_before(found).startswith(wording.without_before(expected).rstrip())


def _named(name: str, role: str) -> str:
    return f"{name} ({role})"


def _source(path: str, sha: str) -> str:
    return f"{path} sha256 {sha}"


def _input(entry: Any) -> tuple[str, str]:
    role = next((tag.value for tag in entry.tags if tag.key == "mlflow.data.context"), "")
    try:
        said = json.loads(entry.dataset.source)
        source = _source(said["path"], said["sha256"])
    except (ValueError, KeyError, TypeError):
        source = str(entry.dataset.source)
    return _named(entry.dataset.name, role), source
