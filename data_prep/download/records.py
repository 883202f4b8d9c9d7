"""Which files of an output folder were fetched and found whole, so that a second run need not read them again.

.download/fetched.jsonl    {"path", "size", "mtime_ns", "digest"}, later lines win; only ever appended
                           size -1: announced, not here yet
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from driving.whole_files import dump_json

STATE = ".download"
FETCHED_NAME = "fetched.jsonl"


class Records:
    """The list of fetched files; a line torn by a kill is passed over, its file is checked by its bytes then."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / STATE / FETCHED_NAME
        self.lock = threading.Lock()
        self.known: dict[str, tuple[int, int, str]] = {}
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
                self.known[row["path"]] = (row["size"], row["mtime_ns"], row["digest"])
            except (ValueError, TypeError, KeyError):
                continue

    def is_kept(self, path: str, digest: str = "") -> bool:
        """Whether a file is still as it was fetched, by size and time; and has this digest, where one is named."""
        known = self.known.get(path)
        if known is None or (digest and known[2] != digest):
            return False
        try:
            found = (self.root / path).stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == known[:2]

    def announce(self, path: str) -> None:
        """Write down that a file will be ours, so that a kill right after it appears leaves no stranger behind."""
        self._append(path, -1, 0, "")

    def add(self, path: str, digest: str) -> None:
        """Write down that a file is whole now."""
        found = (self.root / path).stat()
        self._append(path, found.st_size, found.st_mtime_ns, digest)

    def _append(self, path: str, size: int, mtime_ns: int, digest: str) -> None:
        row = {"path": path, "size": size, "mtime_ns": mtime_ns, "digest": digest}
        with self.lock:
            self.known[path] = (size, mtime_ns, digest)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._is_torn() else "") + dump_json(row) + "\n")

    def _is_torn(self) -> bool:
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            if not size:
                return False
            file.seek(size - 1)
            return file.read(1) != b"\n"
