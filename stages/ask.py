"""Ask the clients that apps use about every released bundle, and compare their answers with the artifact's.

Reads: the bundles, the test split, the references, params.yaml.
Writes: `build/clients.json`: per bundle, named by its digest, what each client answered.
Why: files may load in a client and be answered wrongly without an error: tokens made otherwise, kernels too old, inputs
    of another type. Only that client can tell. A command for people (`make clients`): each client lives in an
    environment of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.asking import browser, comparison, question, record
from stages.asking.answers import TaskClients, everyone, of_task, taking
from stages.asking.interview import interview
from stages.asking.roster import Client, missing
from stages.core import artifact, cli, params
from stages.core.errors import ArtifactError
from stages.core.params import Section
from stages.schema import layout
from stages.schema.clients import Bound, Clients
from stages.schema.variant import Float, Precision, Variant
from stages.targets.base import read_signature

ALL = "all"


class Params(Section):
    """The chosen variants, whether they are float, and who must answer how nearly."""

    clients: Clients
    precisions: dict[str, Precision]
    variants: dict[str, Variant]

    def bound(self, variant: Variant) -> Bound:
        """Return how nearly clients must repeat a variant's answers."""
        full = Float(kind="float", bits=32)
        return self.clients.exact if self.precisions[variant.precision] == full else self.clients.quantized


def run(settings: Params, build: Path, chosen: Sequence[Client], items: int | None) -> None:
    """Ask the chosen clients about every bundle that has a form they take.

    Args:
        settings: who must answer how nearly.
        build: directory of all stage outputs.
        chosen: the clients.
        items: utterances of the test split, None for all.

    Raises:
        ArtifactError: there is no bundle, or a required client did not answer as the artifact did.
    """
    release, path = build / layout.RELEASE, build / layout.CLIENTS
    known = record.read(path)
    keys = [key for key in settings.variants if (release / key / artifact.MANIFEST).is_file()]
    if not keys:
        raise ArtifactError(f"'{release}' has no bundle", next_step="run `dvc repro`")
    bundles = {}
    for key in keys:
        bundle = release / key
        entries = record.current(known, bundle)
        entries |= ask(key, settings, build, [client for client in taking(bundle) if client in chosen], items)
        of = artifact.manifest(bundle)["parents"]["artifact"]
        bundles[key] = {"artifact": of, "bundle": artifact.digest(bundle), "clients": entries}
        record.write(path, {**{name: known[name] for name in keys if name in known}, **bundles})
    required = [client.name for client in chosen if client.name in settings.clients.required]
    said = _disagreements(bundles, required)
    if said:
        raise ArtifactError(
            f"{len(said)} required answer(s) are missing or otherwise: {'; '.join(said)}",
            next_step=f"read '{path}'; docs/clients.md says what each client needs",
        )


def ask(
    key: str, settings: Params, build: Path, chosen: Sequence[Client], items: int | None
) -> dict[str, dict[str, Any]]:
    """Ask clients about one bundle and say on the way what they answer.

    Returns:
        Client → its entry in `clients.json`.
    """
    entries: dict[str, dict[str, Any]] = {}
    asked, task = None, of_task(read_signature(build / layout.RELEASE / key).task)
    for client in chosen:
        why = missing(client) or (client.kind == "browser" and not browser.found() and "no Chromium on this host")
        if why:
            entries[client.name] = {"reason": why, "verdict": "not_measured"}
        else:
            variant, bundle = settings.variants[key], build / layout.RELEASE / key
            asked = asked or question.ask(key, variant, build, items)
            answer = interview(client, asked, bundle)
            entries[client.name] = comparison.judge(
                asked, asked.expected(client), answer, settings.bound(variant), client.reads_text
            )
        print(f"{key} in {client.name}: {_line(entries[client.name], task)}", flush=True)
    return entries


def _disagreements(bundles: Mapping[str, Any], required: Sequence[str]) -> list[str]:
    return [
        f"{key} in {name}: {entry['reason']}"
        for key, bundle in bundles.items()
        for name, entry in bundle["clients"].items()
        if name in required and entry["verdict"] != "pass"
    ]


def _line(entry: Mapping[str, Any], task: TaskClients) -> str:
    if "n" not in entry:
        return f"{entry['verdict'].replace('_', ' ')}: {entry['reason']}"
    same, edges = round(entry["top1_agreement"] * entry["n"]), ""
    if entry["edges"]:
        edges = f", {len(entry['edges']['different'])} of {entry['edges']['n']} edge texts otherwise"
    arena = f", {entry['arena_bytes'] / 1000:,.0f} kB of arena" if "arena_bytes" in entry else ""
    return f"{entry['verdict']}, {same} of {entry['n']} alike, {task.said(entry)}{edges}{arena}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    names = list(dict.fromkeys(client.name for client in everyone()))
    parser = cli.parser(__doc__, "build")
    parser.add_argument("--items", help=f"test utterances to ask, `{ALL}` or a number (conf/clients by default)")
    parser.add_argument("--client", action="append", choices=names, help="ask these alone (all by default)")
    parser.add_argument("--browser", action="store_true", help="ask those that run in a browser, and no others")
    return cli.execute(parser, argv, _body)


def _body(arguments: Any) -> None:
    fields = {"clients": "clients", "precisions": "precisions", "variants": "variants"}
    settings = params.load(Params, fields, arguments.params)
    chosen = [
        client
        for client in everyone()
        if (client.name in arguments.client if arguments.client else (client.kind == "browser") == arguments.browser)
    ]
    items = settings.clients.utterances if arguments.items is None else _number(arguments.items)
    run(settings, arguments.build, chosen, items)


def _number(text: str) -> int | None:
    if text == ALL:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ArtifactError(f"--items is '{text}'", expected=f"`{ALL}` or a number of utterances")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
