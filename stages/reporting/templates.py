"""Open the templates of a page: whatever enters one is escaped, and a name that is missing is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2


def environment(*directories: Path) -> jinja2.Environment:
    """Return the environment of the templates in directories; filters are the page's own to add."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(directories),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
