"""Walk the manifests from data to verdict, and check that every recorded parent is the one that lies here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.core import artifact
from stages.lineage.compressions import earlier
from stages.schema.variant import Variant

COLUMNS = ("data", "teacher", "student", "compressed", "converted", "artifact", "parity")


@dataclass(frozen=True)
class Node:
    """One stage output.

    Attributes:
        column: its place in `COLUMNS`.
        name: the instance, or the column where there is one only.
        digest: sha256 of its manifest, 64 hex digits.
    """

    column: str
    name: str
    digest: str


@dataclass(frozen=True)
class Link:
    """A parent that a manifest names.

    Attributes:
        parent: the node of that role that lies here.
        child: the node whose manifest names it.
        intact: whether the recorded digest is the parent's.
    """

    parent: Node
    child: Node
    intact: bool


@dataclass
class Lineage:
    """The nodes of the chosen variants and the links between them."""

    nodes: list[Node] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    @property
    def broken(self) -> list[Link]:
        """Links whose parent was replaced after the child was made."""
        return [link for link in self.links if not link.intact]


def read_lineage(variants: Mapping[str, Variant], build: Path) -> Lineage:
    """Read the chain of every chosen variant.

    Raises:
        ArtifactError: an output has no manifest.
    """
    lineage = Lineage()
    nodes: dict[Path, Node] = {}

    def visit(column: str, name: str, path: Path, *parents: Path, through: Iterable[Path] = ()) -> Path:
        if path not in nodes:
            nodes[path] = Node(column, name, artifact.digest(path))
            lineage.nodes.append(nodes[path])
            recorded = _parents(path)
            for step in through:
                recorded = _parents(step) if artifact.digest(step) in recorded else set()
            lineage.links += [Link(nodes[up], nodes[path], nodes[up].digest in recorded) for up in parents]
        return path

    data = visit("data", "data", build / "data")
    teacher = visit("teacher", "teacher", build / "teacher", data)
    student = visit("student", "student", build / "student", teacher)
    for key, variant in variants.items():
        name = f"{variant.compression}-{variant.target}"
        path, steps = build / "compressed" / variant.compression, earlier(build, variant.compression).values()
        compressed = visit("compressed", variant.compression, path, student, through=steps)
        converted = visit("converted", name, build / "converted" / name, compressed)
        made = visit("artifact", key, build / "artifact" / key, converted)
        visit("parity", key, build / "parity" / key, made)
    return lineage


def _parents(path: Path) -> set[str]:
    return set(artifact.manifest(path)["parents"].values())
