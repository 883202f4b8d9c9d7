"""A page in a real headless Chromium: how long its load event takes, and what is in its document.

    page.html ──local server──▶ frame of a given width ──▶ load_ms, and the value of a JavaScript expression about `doc`

The page itself may forbid scripts: the expression runs in the frame around it.
"""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 120
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0"><pre id="found"></pre>
<iframe id="page" style="border:0;width:{width}px;height:{height}px;display:block"></iframe>
<script>
const page = document.getElementById("page");
page.onload = () => {{
  const doc = page.contentDocument, timing = page.contentWindow.performance.getEntriesByType("navigation")[0];
  let value = null, error = null;
  try {{ value = {script}; }} catch (problem) {{ error = String(problem); }}
  document.getElementById("found").textContent = JSON.stringify({{load_ms: timing.loadEventStart, value, error}});
}};
page.src = "/page.html";
</script>"""


@dataclass(frozen=True)
class Seen:
    """What the browser said: when the load event began [ms after navigation], and the expression's value."""

    load_ms: float
    value: Any


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def describe_browser() -> str:
    """Name and version.

    Raises:
        RuntimeError: There is none.
    """
    return _run_chromium("--version").strip()


def open_page(page: Path, script: str = "null", *, width: int = 1280, height: int = 900) -> Seen:
    """Load a page and evaluate a JavaScript expression about its document, `doc`.

    Raises:
        RuntimeError: There is no browser, or the page or the expression failed.
    """
    frame = FRAME.format(width=width, height=height, script=script)
    with _serve({"/frame.html": frame.encode(), "/page.html": page.read_bytes()}) as address:
        dom = _run_chromium("--dump-dom", f"{address}/frame.html", f"--window-size={max(width, 600)},{height}")
    text = html.unescape(dom.partition('<pre id="found">')[2].partition("</pre>")[0])
    if not text:
        raise RuntimeError(f"the browser did not load {page}: {dom[:200]}")
    found = json.loads(text)
    if found["error"]:
        raise RuntimeError(f"{script} failed in {page}: {found['error']}")
    return Seen(found["load_ms"], found["value"])


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, files: dict[str, bytes], *args: Any) -> None:
        self.files = files
        super().__init__(*args)

    def do_GET(self) -> None:  # the name is the library's
        body = self.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def _serve(files: dict[str, bytes]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _run_chromium(*arguments: str) -> str:
    chromium = find_chromium()
    if chromium is None:
        raise RuntimeError(f"no browser: none of {', '.join(NAMES)} is on the path")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # No sandbox: a container's root has none. No network is asked for but the local server's.
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                 "--disable-background-networking", "--disable-extensions", "--no-proxy-server"]  # fmt: skip
        command = [chromium, "--headless=new", *quiet, f"--user-data-dir={profile}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{chromium} ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stdout
