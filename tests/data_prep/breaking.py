"""Recordings in PhysicalAI-AV's layouts, and ways to break them: each breaks one thing and nothing else."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CAMERA = "camera_front_wide_120fov"
Edit = Callable[[str, bytes], list[tuple[str, bytes]]]


def camera_zip(root: Path, chunk: int = 0) -> Path:
    return root / "camera" / CAMERA / f"{CAMERA}.chunk_{chunk:04d}.zip"


def ego_zip(root: Path, chunk: int = 0) -> Path:
    return root / "labels" / "egomotion" / f"egomotion.chunk_{chunk:04d}.zip"


def edit_zip(path: Path, edit: Edit) -> None:
    """Rewrite an archive member by member."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            for new_name, new_data in edit(name, data):
                archive.writestr(new_name, new_data)


def drop_member(path: Path, member: str) -> None:
    edit_zip(path, lambda name, data: [] if name == member else [(name, data)])


def rename_member(path: Path, member: str, new_name: str) -> None:
    edit_zip(path, lambda name, data: [(new_name if name == member else name, data)])


def replace_member(path: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    edit_zip(path, lambda name, data: [(name, change(data) if name == member else data)])


def flip_byte_in_zip(path: Path, member: str) -> None:
    """Change one stored byte of a member without changing the checksum that the archive keeps of it."""
    with zipfile.ZipFile(path) as archive:
        data = archive.read(member)
    whole = bytearray(path.read_bytes())
    at = whole.index(data) + len(data) // 2
    whole[at] ^= 0xFF
    path.write_bytes(whole)


def cut_short(path: Path, keep: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def edit_table(change: Callable[[dict], dict | None]) -> Callable[[bytes], bytes]:
    """Turn a change of columns (name -> list) into a change of a parquet file's bytes."""

    def edit(data: bytes) -> bytes:
        columns = pq.read_table(io.BytesIO(data)).to_pydict()
        sink = io.BytesIO()
        pq.write_table(pa.table(change(columns) or columns), sink)
        return sink.getvalue()

    return edit


def edit_file(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def edit_index(root: Path, change: Callable) -> None:
    """Change clip_index.parquet as a pandas table whose index is the clip id."""
    import pandas as pd

    path = root / "clip_index.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
