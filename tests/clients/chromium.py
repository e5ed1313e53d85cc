"""Drive headless Chromium over its debugging pipe: open an address, evaluate, list requests, take a picture."""

import base64
import json
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from stages.asking import browser


class Page:
    """One page; commands go down one pipe, answers and events come up another, each ended by a NUL."""

    def __init__(self, down, up):
        self.down, self.up, self.last, self.events = down, up, 0, []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        self.down.write(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        self.down.flush()
        while True:
            text = bytearray()
            while (byte := self.up.read(1)) != b"\0":
                text += byte
            answer = json.loads(text)
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"]
        return result.get("value")

    def until(self, expression, patience_s=60):
        end = time.monotonic() + patience_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, (
                f"`{expression}` is still {value!r}: {self.evaluate('document.body.innerText')}"
            )
            time.sleep(0.1)
        return value

    def requests(self):
        """Addresses asked for, but for what a page carries itself."""
        sent = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in sent if not address.startswith(("blob:", "data:"))]

    def picture(self, out, width=1280, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        given = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        Path(out).write_bytes(base64.b64decode(given["data"]))


@contextmanager
def opened(address):
    """A page that shows an address."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    bridge = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        line = [browser.found(), *browser.FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            ["bash", "-c", bridge, "bash", *line],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            with os.fdopen(ours_out, "wb") as down, os.fdopen(ours_in, "rb") as up:
                page = Page(down, up)
                page.call("Page.navigate", url=address)
                yield page
        finally:
            process.terminate()
            process.wait()
