"""Walk the manifests from data to verdict, and check that every recorded parent is the one that lies here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.core import artifact
from stages.schema.layout import behind, earlier
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
    for key, variant in variants.items():
        places = behind(build, key, variant.compression, variant.target)
        for parent, column in zip([None, *COLUMNS], COLUMNS, strict=False):
            path = places[column]
            if path in nodes:
                continue
            nodes[path] = Node(column, path.name, artifact.digest(path))
            lineage.nodes.append(nodes[path])
            recorded = _parents(path)
            for step in earlier(build, variant.compression).values() if column == "compressed" else ():
                recorded = _parents(step) if artifact.digest(step) in recorded else set()
            if parent:
                above = nodes[places[parent]]
                lineage.links.append(Link(above, nodes[path], above.digest in recorded))
    return lineage


def _parents(path: Path) -> set[str]:
    return set(artifact.manifest(path)["parents"].values())
