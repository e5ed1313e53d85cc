"""Write again what follows from a bundle's chain, and compare: a seal that anybody can make proves none of it.

In a workspace the chain's own outputs are there: golden arrays, labels, limits, model card, BOM, samples,
configurations and tokenizers are written from them by the code that lies here. A bundle alone is held to itself.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stages.core import artifact
from stages.core.errors import TinsmithError
from stages.lineage import bom
from stages.lineage.bundle import LINEAGE, files, statement_path
from stages.lineage.chain import Ground
from stages.lineage.findings import NOTHING, Finding, Link
from stages.lineage.runs import MALFORMED
from stages.releasing import contents, golden
from stages.releasing.forms import configured, of, of_task
from stages.releasing.probe import PROBE
from stages.releasing.source import Source
from stages.releasing.tokenization import TOKENIZER
from stages.schema.layout import RELEASE
from stages.schema.variant import Precision
from stages.targets.base import read_signature
from stages.tasks.base import utterances


def link(bundle: Path, manifest: Mapping[str, Any], ground: Ground) -> Link:
    """Compare a bundle's files with what its chain and its own other files make of them.

    Args:
        bundle: its directory.
        manifest: the bundle's.
        ground: where to look.
    """
    found = Link("what follows from the chain")
    try:
        found.findings += _misnamed(bundle, manifest, ground)
        found.findings += _alone(bundle, manifest)
        places = _places(manifest, ground)
        absent = sorted(manifest["parents"].keys() - places.keys())
        if absent:
            found.unfollowed.append(f"not written again: {', '.join(absent)} of its chain is not here")
        elif changed := _other_code(ground):
            found.unfollowed.append(f"not written again: {changed} is not the code that released it")
        else:
            _again(bundle, manifest, places, found)
    except (OSError, ValidationError, TinsmithError, *MALFORMED) as error:
        found.findings.append(Finding(str(bundle), "files as a release writes them", repr(error)))
    return found


def _misnamed(bundle: Path, manifest: Mapping[str, Any], ground: Ground) -> Iterator[Finding]:
    """Name an artifact that the build here has for other variants only."""
    here = ground.manifests.get(manifest["parents"]["artifact"], [])
    made = sorted(place.directory.name for place in here if place.directory)
    if made and bundle.name not in made:
        yield Finding(str(bundle), f"the artifact of {bundle.name}", f"that of {', '.join(made)}")


def _alone(bundle: Path, manifest: Mapping[str, Any]) -> Iterator[Finding]:
    """Hold a bundle's copies of its classes' names, its own name and its tokenizer to each other."""
    listed, task = _listed(manifest), read_signature(bundle).task
    for name, how in of_task(task).copies(bundle):
        yield Finding(str(bundle / name), "what follows from the bundle", f"a file that {how}")
    for name in (f"{form.configured}/{TOKENIZER}" for form in configured(task)):
        if name in listed and listed[name] != listed[f"tokenizer/{TOKENIZER}"]:
            yield Finding(str(bundle / name), f"tokenizer/{TOKENIZER}", "another")
    for name, variant in (
        ("limits.json", json.loads((bundle / "limits.json").read_bytes())["variant"]),
        ("bom.cdx.json", json.loads((bundle / "bom.cdx.json").read_bytes())["metadata"]["component"]["name"]),
    ):
        if variant != bundle.name:
            yield Finding(str(bundle / name), f"the variant {bundle.name}", str(variant))


def _places(manifest: Mapping[str, Any], ground: Ground) -> dict[str, Path]:
    """Return role → the output here that has the digest which the bundle recorded."""
    found = {}
    for role, digest in manifest["parents"].items():
        here = [place.directory for place in ground.manifests.get(digest, []) if place.directory]
        if here:
            found[role] = here[0]
    return found


def _other_code(ground: Ground) -> str:
    """Name a file of the release's code that lies here otherwise; nothing where none is known."""
    path = statement_path(ground.build, ground.build / RELEASE) if ground.build else None
    if not path or not path.is_file():
        return ""
    depends = artifact.read_json(path)["predicate"]["buildDefinition"]["resolvedDependencies"]
    code = next(entry["annotations"]["files"] for entry in depends if entry["name"] == "code")
    changed = (name for name, sha in code.items() if not Path(name).is_file() or artifact.sha256(Path(name)) != sha)
    return next(changed, "")


def _again(bundle: Path, manifest: Mapping[str, Any], places: Mapping[str, Path], found: Link) -> None:
    """Write the files that need no runtime into a temporary directory and compare bytes."""
    verdict = json.loads((bundle / "verdict.json").read_bytes())
    said = json.loads((bundle / "limits.json").read_bytes())
    forms = {
        name: {key: text for key, text in form.items() if key != "clients"} for name, form in said["forms"].items()
    }
    made = artifact.manifest(places["artifact"])["params"]
    precision: Any = TypeAdapter(Precision).validate_python(made["precision"])
    source = contents.open_source(bundle.name, manifest["params"]["target"], precision, places)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        contents.describe(source, verdict, places, forms, said["left_out"], out)
        golden.write(places["artifact"], places["reference"], places["parity"], out)
        known = of(source).FORMS
        for form in (known[name] for name in forms if known[name].configured):
            (out / form.configured).mkdir(parents=True, exist_ok=True)
            source.configure(out / form.configured, rules_from_file=form.rules_from_file)
        written = {name: artifact.sha256(out / name) for name in files(out)}
    listed = _listed(manifest)
    found.findings += [
        Finding(str(bundle / name), f"{sha} (written again)", listed.get(name, NOTHING))
        for name, sha in written.items()
        if listed.get(name) != sha
    ]
    shipped = {name: sha for name, sha in listed.items() if name != bom.BOM and not name.startswith(f"{LINEAGE}/")}
    wanted = bom.describe(bom.gather(bundle.name, verdict, places, shipped))
    there = json.loads((bundle / bom.BOM).read_bytes())
    if bom.without_tools_licences(there) != bom.without_tools_licences(wanted):
        found.findings.append(Finding(str(bundle / bom.BOM), "what the chain and the files here say", "another BOM"))
    found.findings += _probe(bundle, source)
    found.notes.append(f"{len(written)} files were written again, {len(found.findings)} came out otherwise")


def _probe(bundle: Path, source: Source) -> Iterator[Finding]:
    """Hold the probe's ids to the reference's, and the name of each answer to its index."""
    rows = json.loads((bundle / PROBE).read_bytes())["utterances"]
    wanted = [inputs["input_ids"][0].tolist() for inputs in utterances(source.probe)]
    if [row["ids"] for row in rows] != wanted:
        yield Finding(str(bundle / PROBE), "the ids of the probe split", "others")
    if any(of_task(source.task).misnamed(source, row) for row in rows):
        yield Finding(str(bundle / PROBE), "answers by the names of their classes", "others")


def _listed(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}
