"""Ask a client in headless Chromium: page, modules and bundle come from loopback, and nothing may come from elsewhere.

The page posts its answer back, so no driver is needed. Its Content-Security-Policy lets it ask this server alone and
reports every attempt to ask another; Chromium itself resolves no other name.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stages.asking.roster import PROGRAMS

PATIENCE_S = 300
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
POLICY = (
    "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob: data:; "
    "worker-src 'self' blob:; report-uri /outside"
)
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


def found() -> str | None:
    """Return the browser's path, None where there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


class Desk(ThreadingHTTPServer):
    """Serves one page and waits for its answer.

    Attributes:
        answered: set once the page has posted.
        answer: what it posted.
        outside: addresses that it asked elsewhere, in vain.
    """

    daemon_threads = True

    def __init__(self, question: bytes, places: Mapping[str, Path]) -> None:
        """Serve `question` and the files below `places`, first part of a path → directory, on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.question, self.places = question, {name: path.resolve() for name, path in places.items()}
        self.answered, self.answer, self.outside = threading.Event(), dict[str, Any](), list[str]()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def read(self, path: str) -> bytes | None:
        """Return a file by its path, None where there is none or it lies outside its directory."""
        _, place, rest = path.split("?")[0].split("/", 2) if path.count("/") > 1 else ("", "", "")
        root = self.places.get(place)
        file = (root / rest).resolve() if root else None
        return file.read_bytes() if root and file and file.is_relative_to(root) and file.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    server: Desk

    def do_GET(self) -> None:
        """Send the question or a file."""
        body = self.server.question if self.path == "/question" else self.server.read(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Security-Policy", POLICY)
        kind = TYPES.get(Path(self.path.split("?")[0]).suffix, "application/octet-stream")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_HEAD(self) -> None:
        """Say how long a file is."""
        body = self.server.read(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()

    def do_POST(self) -> None:
        """Take the answer, or a report of what the policy stopped."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        if self.path == "/answer":
            self.server.answer = body
            self.server.answered.set()
        else:
            self.server.outside.append(body["csp-report"]["blocked-uri"])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(question: bytes, places: Mapping[str, Path]) -> Iterator[Desk]:
    """Serve until the block ends."""
    with Desk(question, places) as desk:
        threading.Thread(target=desk.serve_forever, daemon=True).start()
        try:
            yield desk
        finally:
            desk.shutdown()


@contextmanager
def browsing(address: str, *flags: str) -> Iterator[None]:
    """Show an address in headless Chromium, with a profile of its own, until the block ends."""
    chromium = found()
    assert chromium is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        line = [chromium, *FLAGS, *flags, f"--user-data-dir={profile}", address]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def ask(program: str, question_path: Path, bundle: Path, modules: Path) -> dict[str, Any]:
    """Ask a JavaScript client about a bundle in the browser.

    Args:
        program: the client's module.
        question_path: the question; the file it names lies in the bundle.
        bundle: the bundle.
        modules: `node_modules`.

    Returns:
        As `interview`: a request to anywhere else counts as a crash.
    """
    question = json.loads(question_path.read_text(encoding="utf-8"))
    question["file"] = f"/bundle/{Path(question['file']).relative_to(bundle.resolve()).as_posix()}"
    places = {"bundle": bundle, "modules": modules, "programs": PROGRAMS / "javascript"}
    with serving(json.dumps(question).encode(), places) as desk:
        with browsing(f"{desk.address}/programs/page.html?program={program}"):
            if not desk.answered.wait(PATIENCE_S):
                return {"crashed": f"no answer within {PATIENCE_S} s"}
        if desk.outside:
            return {"crashed": f"asked {len(desk.outside)} addresses outside this machine: {desk.outside[0]}"}
        return desk.answer
