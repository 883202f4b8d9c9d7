"""Headless Chromium, spoken to over a pipe (--remote-debugging-pipe): open a page, run a line in it, look at it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
LIMIT_S = 300.0


class Browser:
    """One page. `requests` holds the address of everything that it fetched."""

    def __init__(self, width: int = 1200, height: int = 1400) -> None:
        self.requests: list[str] = []
        self._number = 0
        self._rest = b""
        self._profile = tempfile.mkdtemp(prefix="chromium_")
        reads, self._write_fd = os.pipe()
        self._read_fd, writes = os.pipe()
        # the browser reads commands at 3 and writes answers at 4
        words = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={self._profile}",
            f"--window-size={width},{height}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "chromium", *words],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, line: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=line, returnByValue=True)["result"].get("value")

    def wait(self, line: str, limit_s: float = LIMIT_S) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + limit_s
        while not self.run(line):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {line}")
            time.sleep(0.2)

    def screenshot(self, path: Path, *, dark: bool = False) -> None:
        value = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._write_fd)
        self._process.terminate()
        self._process.wait(10)
        os.close(self._read_fd)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read_fd], [], [], LIMIT_S)[0]:
                raise TimeoutError("the browser says nothing")
            chunk = os.read(self._read_fd, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser has gone")
            self._rest += chunk
        raw, _, self._rest = self._rest.partition(b"\0")
        return json.loads(raw)
