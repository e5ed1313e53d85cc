"""JSON Schemas of conf/'s groups, for editors that complete and check YAML while it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.schema.config import Config

DEFS = "#/$defs/"
PARTIAL = "Partial"


def schemas(conf: Path) -> dict[str, dict[str, Any]]:
    """Return the schema of every group that has files and sections in `stages/schema`, by the group's name.

    A file that names others under `defaults` may leave out what they have; an experiment may leave out anything.
    """
    whole = Config.model_json_schema()
    strict = whole.pop("$defs")
    defs = {**strict, **{f"{PARTIAL}{name}": _partial(section) for name, section in strict.items()}}
    found = {}
    for directory in sorted(path.parent for path in conf.glob("*/**/*.yaml")):
        group = directory.name
        if group == "experiment":
            found[group] = _partial(whole)
        elif section := _section(group, whole["properties"], strict):
            found[group] = {"if": {"required": ["defaults"]}, "then": _partial(section), "else": section}
    return {group: {**schema, "$defs": _reached(schema, defs)} for group, schema in found.items()}


def _section(group: str, properties: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any] | None:
    """Find what a group's file holds: a key of params.yaml, one entry of such a key, or a part of one."""
    if f"{group}s" in properties:
        return dict(properties[f"{group}s"]["additionalProperties"])
    return properties.get(group) or ({"$ref": f"{DEFS}{group.title()}"} if group.title() in defs else None)


def _partial(node: Any) -> Any:
    """Ask for no key, allow `defaults`, and refer to sections that do so too."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node.replace(DEFS, f"{DEFS}{PARTIAL}") if isinstance(node, str) else node
    # Without what tells them apart, several of a choice may fit. `required` may also be a setting's own name.
    kept = {
        "anyOf" if key == "oneOf" else key: _partial(value)
        for key, value in node.items()
        if not (key == "required" and isinstance(value, list)) and not (key == "discriminator" and "mapping" in value)
    }
    if kept.get("additionalProperties") is False:
        kept["properties"] = {**kept["properties"], "defaults": {"type": "array"}}
    return kept


def _reached(schema: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """Return the sections that a schema refers to, and those that they do."""
    found: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, str) and node.startswith(DEFS) and (name := node.removeprefix(DEFS)) not in found:
            found[name] = defs[name]
            waiting.append(defs[name])
    return dict(sorted(found.items()))
