"""Run a client's program on a question, in its own environment, and bring back what it answered."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.asking import browser, question
from stages.asking.question import Question
from stages.asking.roster import INSTALLED, PROGRAMS, ROOT, Client, file_of
from stages.core import artifact

PATIENCE_S = 900
NODE_MODULES = INSTALLED / "node/node_modules"


def interview(client: Client, asked: Question, bundle: Path) -> dict[str, Any]:
    """Ask one client about one bundle.

    Args:
        client: one that can run here and takes a form of the bundle.
        asked: the question.
        bundle: the released bundle.

    Returns:
        `version` and `items`, or `refused` where it would not open the file, or `crashed` where no answer came.
    """
    file = file_of(bundle, client.form)
    assert file is not None
    with tempfile.TemporaryDirectory() as scratch:
        question_path, answer_path = Path(scratch) / "question.json", Path(scratch) / "answer.json"
        question.write(asked, bundle, file, client.reads_text, question_path)
        if client.kind == "browser":
            return browser.ask(client.program, question_path, bundle, NODE_MODULES)
        return _run(command(client, question_path, answer_path), answer_path)


def command(client: Client, question_path: Path, answer_path: Path) -> list[str]:
    """Return the command line that asks a client outside the browser."""
    if client.kind == "node":
        program = PROGRAMS / "javascript/node.mjs"
        return ["node", str(program), client.program, str(question_path), str(answer_path), str(NODE_MODULES)]
    python = INSTALLED / client.environment / "bin/python" if client.environment else Path(sys.executable)
    return [str(python), "-m", f"stages.asking.python.{client.program}", str(question_path), str(answer_path)]


def _run(line: list[str], answer_path: Path) -> dict[str, Any]:
    try:
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return {"crashed": f"no answer within {PATIENCE_S} s"}
    if done.returncode != 0 or not answer_path.is_file():
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        return {"crashed": f"exit {done.returncode}: {last}"}
    return dict(artifact.read_json(answer_path))
