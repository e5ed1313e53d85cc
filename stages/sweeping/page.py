"""Put a sweep on one self-contained page: fronts, recommendations, what was shared, what failed and why."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stages import reporting
from stages.measure.registry import REGISTRY
from stages.reporting import templates, wording
from stages.sweeping import drawing
from stages.sweeping.alone import CONTENDED
from stages.sweeping.findings import Findings, Platform
from stages.sweeping.ledger import STATES
from stages.sweeping.points import asked
from stages.sweeping.settings import Sweep
from stages.tasks.base import Primary

STYLE = "svg .mark.beaten { opacity: 0.35; } svg .mark.beaten.hollow { opacity: 0.8; }"


def render(settings: Sweep, found: Findings) -> str:
    """Return the page as HTML; the same findings give the same bytes."""
    environment = templates.environment(Path(__file__).parent)
    environment.filters |= {"bracket": wording.bracket, "figure": wording.figure, "unit": wording.unit}
    return environment.get_template("page.html.j2").render(**_context(settings, found)) + "\n"


def _context(settings: Sweep, found: Findings) -> dict[str, Any]:
    base = (Path(reporting.__file__).parent / "page.css").read_text(encoding="utf-8").strip()
    style = f"{base}\n{STYLE}"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    points = [point for platform in found.platforms for point in platform.points]
    passing = sum(point.verdict == "pass" for point in points)
    asked_for = [budget.metric for profile in settings.profiles.values() for budget in profile.budgets]
    columns = list(dict.fromkeys([*settings.goals, "top1_agreement", *asked_for]))
    return {
        "band": _band(found),
        "columns": columns,
        "contended": CONTENDED,
        "counts": {"jobs": len(found.records), "passing": passing, "variants": len(points)},
        "ended_early": [
            {**record, "asked": " ".join(f"{name}={value}" for name, value in asked(record, all_of_it=True).items())}
            for record in found.records
            if record["state"] != "done"
        ],
        "goals": settings.goals,
        "name": settings.name,
        "platforms": [_platform(platform, found.primary) for platform in found.platforms],
        "policy": f"default-src 'none'; style-src 'sha256-{digest}'",
        "primary": found.primary,
        "recommendations": found.recommendations,
        "registry": REGISTRY,
        "sharing": found.sharing,
        "style": Markup(style),  # noqa: S704 (ours, and the policy's hash covers exactly these bytes)
    }


def _band(found: Findings) -> list[tuple[str, str, str]]:
    counts = Counter(record["state"] for record in found.records)
    steps = [step for record in found.records for step in record["steps"] if step["key"]]
    ran = sum(step["how"] == "ran" for step in steps)
    cpu = sum(step["cpu_s"] for step in steps)
    own = sorted(record["own_cpu_s"] for record in found.records)
    return [
        ("Jobs", str(len(found.records)), ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])),
        ("Stages run", f"{ran} of {len(steps)}", f"{cpu:,.0f} s of CPU; the others had been computed"),
        ("On the fronts", str(sum(len(platform.front) for platform in found.platforms)), "of all platforms"),
        ("Overhead per job", f"{own[len(own) // 2]:.2f} s" if own else "–", "CPU beside the stages' own, median"),
    ]


def _platform(platform: Platform, primary: Primary) -> Mapping[str, Any]:
    costs = [goal for goal in platform.goals if goal != primary.metric]
    front = {point.label for point in platform.front}
    return {
        **vars(platform),
        "beaten": [point for point in platform.points if point.label not in front],
        "growth": drawing.growth(platform.volumes, platform.target),
        "plots": [drawing.scatter(platform.points, platform.front, cost, primary) for cost in costs],
    }
