"""A Hugging Face Hub on this machine, over real HTTP: a folder served as a gated dataset, with faults on order.

Files held by LFS are redirected to another host name (localhost instead of 127.0.0.1), as the real hub does to its CDN.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

REPO = "nvidia/PhysicalAI-Autonomous-Vehicles"
COMMIT, OLDER_COMMIT = "a" * 40, "b" * 40
GOOD_TOKEN, STRANGER_TOKEN, EXPIRED_TOKEN = "hf_good", "hf_stranger", "hf_expired"


@dataclass
class Fault:
    """What goes wrong, how often.

    Attributes:
        where: a part of the path that is asked for.
        kind: status, drop, reset, short, ignore_range, wrong_range, replace, stall, slow, closed, text.
        value: the status; the byte after which it drops; the other content; seconds.
        times: how many requests meet it.
        headers: sent with a status.
    """

    where: str
    kind: str
    value: object = None
    times: int = 1
    headers: tuple[tuple[str, str], ...] = ()


class LocalHub(ThreadingHTTPServer):
    """Serves `root`. `log` holds (method, path in the dataset or API, Range, status) of every request."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, str, int]] = []
        self.tokens_at_cdn: set[str | None] = set()
        self.lock = threading.Lock()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def break_next(self, where: str, kind: str, value: object = None, times: int = 1, headers=()) -> None:
        self.faults.append(Fault(where, kind, value, times, tuple(headers)))

    def asked(self, where: str) -> list[tuple[str, str, str, int]]:
        """The requests for bodies of paths that hold `where`, but for redirects."""
        return [entry for entry in self.log if entry[0] == "GET" and where in entry[1] and entry[3] != 302]

    def take_fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.where in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request, client_address) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """The four addresses that the Hub's client uses, and the CDN."""

    protocol_version = "HTTP/1.1"
    server: LocalHub

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/cdn/"):
            self.server.tokens_at_cdn.add(self.headers.get("Authorization"))
            self.send_file(path.removeprefix("/cdn/"))
            return
        api, files = f"/api/datasets/{REPO}/", f"/datasets/{REPO}/resolve/"
        place = path.removeprefix(api) if path.startswith(api) else path.removeprefix(files)
        if place == path:
            self.refuse(path, 404, "RepoNotFound")
        elif path.startswith(api):
            self.answer_api(place)
        else:
            commit, _, name = place.partition("/")
            self.answer_file(commit, name)

    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def answer_api(self, place: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        fault = self.server.take_fault(f"api/{place}")
        if fault:
            self.send_fault(f"api/{place}", fault)
        elif self.token() == EXPIRED_TOKEN:
            self.refuse(place, 401, "", "Invalid credentials in Authorization header")
        elif place == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
            tag = {"name": "25.10", "ref": "refs/tags/25.10", "targetCommit": OLDER_COMMIT}
            self.send_json(place, {"branches": [branch], "tags": [tag], "converts": []})
        elif place.startswith("paths-info/"):
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            self.send_json(place, [self.describe(name) for name in asked if (self.server.root / name).is_file()])
        else:
            folder = self.server.root / place.split("/", 2)[2]
            if not folder.is_dir():
                self.refuse(place, 404, "EntryNotFound")
                return
            names = sorted(
                path.relative_to(self.server.root).as_posix() for path in folder.rglob("*") if path.is_file()
            )
            self.send_json(place, [self.describe(name) for name in names])

    def describe(self, name: str) -> dict:
        content = (self.server.root / name).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        told = {"type": "file", "path": name, "size": len(content), "oid": blob}
        if not name.endswith(".csv"):
            told["lfs"] = {"size": len(content), "oid": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
        return told

    def answer_file(self, commit: str, name: str) -> None:
        path = self.server.root / name
        if self.token() != GOOD_TOKEN:
            status = 403 if self.token() == STRANGER_TOKEN else 401
            message = "Invalid credentials in Authorization header" if self.token() == EXPIRED_TOKEN else ""
            self.refuse(name, status, "" if message else "GatedRepo", message)
        elif commit not in (COMMIT, OLDER_COMMIT):
            self.refuse(name, 404, "RevisionNotFound")
        elif not path.is_file():
            self.refuse(name, 404, "EntryNotFound")
        elif name.endswith(".csv"):
            self.send_file(name)
        else:
            told = self.describe(name)
            self.start(name, 302, {
                "Location": f"http://localhost:{self.server.server_port}/cdn/{name}", "Content-Length": "0",
                "X-Repo-Commit": commit, "X-Linked-Size": str(told["size"]), "X-Linked-Etag": told["lfs"]["oid"],
            })  # fmt: skip

    def send_file(self, name: str) -> None:
        fault = self.server.take_fault(name)
        content = (self.server.root / name).read_bytes()
        if fault and fault.kind == "replace":
            content, fault = fault.value, None
        if fault and fault.kind in ("status", "closed"):
            self.send_fault(name, fault)
            return
        if fault and fault.kind == "slow":
            time.sleep(fault.value)
            fault = None
        start, stop, status, headers = 0, len(content), 200, {}
        asked = (self.headers.get("Range") or "").removeprefix("bytes=")
        if asked and not (fault and fault.kind == "ignore_range"):
            first, _, last = asked.partition("-")
            start, stop, status = int(first), int(last or len(content) - 1) + 1, 206
            if start >= len(content):
                self.refuse(name, 416)
                return
            if fault and fault.kind == "wrong_range":
                start -= 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        body = content[start:stop]
        length = fault.value if fault and fault.kind == "short" else len(body)
        self.start(name, status, {**headers, "Content-Length": str(length), "X-Repo-Commit": COMMIT})
        if self.command == "HEAD":
            return
        if fault and fault.kind == "stall":
            self.wfile.write(body[:60_000])
            time.sleep(fault.value)
        elif fault and fault.kind in ("drop", "reset"):
            self.wfile.write(body[: fault.value])
            self.wfile.flush()
            if fault.kind == "reset":  # a TCP reset instead of an orderly end
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True
        else:
            self.wfile.write(body[:length])

    def send_fault(self, name: str, fault: Fault) -> None:
        if fault.kind == "closed":  # nothing is answered at all
            self.server.log.append((self.command, name, "", 0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.kind == "text":
            self.start(name, 200, {"Content-Length": "6"})
            self.wfile.write(b"<html>")
        else:
            self.start(name, fault.value, {"Content-Length": "0", **dict(fault.headers)})

    def refuse(self, name: str, status: int, code: str = "", message: str = "") -> None:
        headers = {"Content-Length": "0"}
        headers |= {"X-Error-Code": code} if code else {}
        headers |= {"X-Error-Message": message} if message else {}
        self.start(name, status, headers)

    def send_json(self, name: str, value: object) -> None:
        body = json.dumps(value).encode()
        self.start(f"api/{name}", 200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def start(self, name: str, status: int, headers: dict[str, str]) -> None:
        self.server.log.append((self.command, name, self.headers.get("Range") or "", status))
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
