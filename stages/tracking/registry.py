"""Registered versions of passing variants. None is ever deleted: others may have pinned it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stages.core.artifact import MANIFEST
from stages.tracking import stored, wording
from stages.tracking.content import tags_of
from stages.tracking.place import Place, registered
from stages.tracking.record import SHORT, Variant

CANDIDATE, RELEASED = "candidate", "released"
NOTE, VERSIONS = "mlflow.note.content", "mlflow.modelVersions"


class Registry:
    """Registered versions of passing variants; none is ever deleted: others may have pinned it."""

    def __init__(self, client: Any, place: Place) -> None:
        self.client, self.place = client, place

    def register(self, variant: Variant, run: Any, model: Any) -> None:
        """Register a version of a finished run's model and move the alias `candidate` to it."""
        from mlflow.exceptions import MlflowException

        name = registered(self.place.experiment, variant.key)
        run = self.client.get_run(run.info.run_id)  # what was put right a moment ago included
        try:
            self.client.create_registered_model(name, description=wording.describe_registered(variant))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self.client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            run_id=run.info.run_id,
            model_id=model.model_id,
            tags={"fingerprint": variant.fingerprint, **tags_of(variant)},
            description=run.data.tags[NOTE],
        )
        self.point(name, str(version.version), model.model_id)

    def point(self, name: str, number: str, model: str) -> None:
        """Move `candidate` to a version if it is the newest, then link the model's page to it.

        Without that link the page says "Not registered" (create_model_version alone does not link back).
        """
        versions = self.client.search_model_versions(f"name = '{name}'")
        if int(number) >= max(int(version.version) for version in versions):
            self.client.set_registered_model_alias(name, CANDIDATE, number)
        self.client.set_logged_model_tags(model, {VERSIONS: link(name, number)})

    def release(self, key: str, chain: Mapping[str, str], tags: Mapping[str, str]) -> bool:
        """Point `released` at a variant's newest version of exactly this chain, and tag it; whether it moved.

        A version's tags say what it is and prove nothing: the manifest of the model behind it must be the one that the
        bundle was made of.

        Args:
            key: the variant.
            chain: stage → sha256 of that stage's manifest.
            tags: what else the version says of the bundle.
        """
        name = registered(self.place.experiment, key)
        said = {stage: sha[:SHORT] for stage, sha in chain.items()}
        versions = self.client.search_model_versions(f"name = '{name}'")
        same = [version for version in versions if said.items() <= version.tags.items()]
        for newest in sorted(same, key=lambda version: int(version.version), reverse=True):
            if self._manifest(newest) == chain["artifact"]:
                return self._release(name, newest, tags)
        return False

    def _release(self, name: str, version: Any, tags: Mapping[str, str]) -> bool:
        for tag, value in tags.items():
            if version.tags.get(tag) != value:
                self.client.set_model_version_tag(name, version.version, tag, value)
        if str(self.client.get_registered_model(name).aliases.get(RELEASED)) == str(version.version):
            return False  # a version that was found by a search does not know its aliases
        self.client.set_registered_model_alias(name, RELEASED, version.version)
        return True

    def _manifest(self, version: Any) -> str | None:
        """Return the sha256 of the manifest among the files of a version's model, None where either is gone."""
        from mlflow.exceptions import MlflowException

        try:
            model = self.client.get_logged_model(version.source.removeprefix("models:/"))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return stored.file(model.artifact_location, MANIFEST)


def link(name: str, number: str) -> str:
    """Return what a model's page needs to know its version."""
    return json.dumps([{"name": name, "version": int(number)}])
