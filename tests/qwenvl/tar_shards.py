"""Training rows as WebDataset shards, as scripts/export_dataset.py writes them. Not a test itself."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A plain tar of these names and contents, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder: Path, training_json: Path, num_rows: int = 3, split: str = "train") -> Path:
    """`folder`/{split}-000000.tar and so on, of so many rows each; returns the prefix that names them."""
    rows = json.loads(training_json.read_text())
    for number, start in enumerate(range(0, len(rows), num_rows)):
        members = []
        for place, row in enumerate(rows[start : start + num_rows], start):
            key = f"{place:09d}-{row['id']}"
            video = training_json.parent / row["video"]
            facts = {name: value for name, value in row.items() if name != "video"}
            members += [(f"{key}{video.suffix}", video.read_bytes()), (f"{key}.json", json.dumps(facts).encode())]
        write_tar(folder / f"{split}-{number:06d}.tar", members)
    return folder / split
