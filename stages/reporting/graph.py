"""Draw the lineage: one column per stage, one line per recorded parent, digests in every box."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from stages.reporting.evidence import Line
from stages.reporting.lineage import COLUMNS, Lineage, Node
from stages.reporting.svg import canvas, element

BOX_WIDTH, BOX_HEIGHT, STEP_X, STEP_Y, HEAD = 136.0, 34.0, 167.0, 42.0, 26.0
GLYPHS = {"pass": "✓", "fail": "✕", "not_measured": "○", "refuses": "⊘"}
TITLES = {"parity": "parity and verdict"}
FITS = 21

Place = tuple[float, float]


def graph(lineage: Lineage, lines: Mapping[str, Line], names: Mapping[str, str]) -> Markup:
    """Draw nodes and links.

    Args:
        lineage: what the manifests say.
        lines: variant → its verdict.
        names: what to call data, teacher and student.
    """
    places = _places(lineage)
    bottom = max(y for _, y in places.values()) + BOX_HEIGHT + 4
    heads = [
        element("text", TITLES.get(column, column), x=1 + STEP_X * index, y=14, class_="column")
        for index, column in enumerate(COLUMNS)
    ]
    links = [
        _link(places[link.parent], places[link.child], "link" if link.intact else "link broken")
        for link in lineage.links
    ]
    boxes = [_box(node, places[node], lines.get(node.name), names) for node in lineage.nodes]
    width = STEP_X * (len(COLUMNS) - 1) + BOX_WIDTH + 2
    return canvas(width, bottom, "lineage from data to verdicts", *heads, *links, *boxes, class_="lineage")


def _places(lineage: Lineage) -> dict[Node, Place]:
    """Stack the leaves so that siblings are neighbours; every parent stands at the middle of its children."""
    children: dict[Node, list[Node]] = {}
    for link in lineage.links:
        children.setdefault(link.parent, []).append(link.child)
    heights: dict[Node, float] = {}

    def settle(node: Node) -> float:
        if node not in heights:
            below = [settle(child) for child in children.get(node, [])]
            leaves = sum(1 for placed in heights if placed.column == COLUMNS[-1])
            heights[node] = (min(below) + max(below)) / 2 if below else HEAD + STEP_Y * leaves
        return heights[node]

    for node in lineage.nodes:
        settle(node)
    return {node: (1 + STEP_X * COLUMNS.index(node.column), height) for node, height in heights.items()}


def _link(parent: Place, child: Place, class_: str) -> Markup:
    x1, y1 = parent[0] + BOX_WIDTH, parent[1] + BOX_HEIGHT / 2
    x2, y2 = child[0], child[1] + BOX_HEIGHT / 2
    bend = (x1 + x2) / 2
    return element(
        "path", d=f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}", class_=class_
    )


def _box(node: Node, place: Place, line: Line | None, names: Mapping[str, str]) -> Markup:
    x, y = place
    label, style = names.get(node.column, node.name), "box"
    if line is not None and node.column == "artifact":
        label = line.short
    if line is not None and node.column == "parity":
        label, style = f"{GLYPHS[line.verdict]} {line.verdict.replace('_', ' ')}", f"box {line.verdict}"
    shown = label if len(label) <= FITS else f"{label[: FITS - 1]}…"
    return element(
        "g",
        element("title", f"{node.column} {node.name}\nsha256 of its manifest: {node.digest}"),
        element("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=3, class_=style),
        element("text", shown, x=x + 8, y=y + 14, class_="label"),
        element("text", node.digest[:12], x=x + 8, y=y + 27, class_="digest"),
    )
