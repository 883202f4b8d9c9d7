"""The scaled videos of a chunk's recordings: files of their own while the chunk is in work, then one zip archive.

    videos/waiting/<recording>.mp4 ──pack_videos──▶ videos/chunk_0007.zip: a member <recording>.mp4 each, stored
                                   ◀──unpack_videos──  where the chunk is opened again

A stored member is read where it lies (`video_io.address`). The archive holds no clock times and its members are sorted,
so the same videos make the same bytes.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from driving.whole_files import write_atomically
from driving.zip_errors import ZIP_ERRORS

if TYPE_CHECKING:
    import pyarrow as pa

VIDEOS_FOLDER = "videos"
WAITING_FOLDER = Path(VIDEOS_FOLDER) / "waiting"
BLOCK_BYTES = 1 << 20


def archive_path(output_dir: Path, chunk: str) -> Path:
    return output_dir / VIDEOS_FOLDER / f"{chunk}.zip"


def member_name(recording_id: str) -> str:
    return f"{recording_id}.mp4"


def waiting_path(output_dir: Path, recording_id: str) -> Path:
    return output_dir / WAITING_FOLDER / member_name(recording_id)


def pack_videos(output_dir: Path, chunk: str, recording_ids: Iterable[str]) -> None:
    """Put the waiting videos of these recordings into the chunk's archive, which takes its name when it is whole.

    They stay where they are until the chunk is done and `remove_waiting` is called. No recordings make no archive.

    Raises:
        LedgerError: The disk is full.
    """
    ids = sorted(recording_ids)
    if not ids:
        archive_path(output_dir, chunk).unlink(missing_ok=True)
        return
    with write_atomically(archive_path(output_dir, chunk)) as file, zipfile.ZipFile(file, "w") as archive:
        for recording_id in ids:
            path = waiting_path(output_dir, recording_id)
            member = zipfile.ZipInfo(member_name(recording_id))  # dated 1980, stored, whatever the system's defaults
            member.file_size, member.external_attr = path.stat().st_size, 0o644 << 16
            member.create_system = 3
            with path.open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, BLOCK_BYTES)


def point_into_archive(table: pa.Table, output_dir: Path, chunk: str) -> pa.Table:
    """Rows of a recording whose video is a member of the chunk's archive."""
    import pyarrow as pa

    place = table.schema.get_field_index("video_path")
    paths = pa.array([archive_path(output_dir, chunk).as_posix()] * table.num_rows, pa.string())
    return table.set_column(place, table.schema.field(place), paths)


def remove_waiting(output_dir: Path, recording_ids: Iterable[str]) -> None:
    """The waiting videos have served once their chunk is done."""
    for recording_id in recording_ids:
        waiting_path(output_dir, recording_id).unlink(missing_ok=True)


def drop_videos(output_dir: Path, chunks: Collection[str], waiting: Collection[str]) -> None:
    """Remove archives of other chunks than these, and waiting videos of other recordings."""
    for path in (output_dir / VIDEOS_FOLDER).glob("*.zip"):
        if path.stem not in chunks:
            path.unlink()
    for path in (output_dir / WAITING_FOLDER).glob("*.mp4"):
        if path.stem not in waiting:
            path.unlink()


def is_packed(output_dir: Path, chunk: str, recording_ids: Collection[str]) -> bool:
    """Whether a chunk's archive is there, can be opened and holds these recordings; nothing but its end is read."""
    path = archive_path(output_dir, chunk)
    if not recording_ids or not path.is_file():
        return not recording_ids and not path.exists()
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) == {member_name(recording_id) for recording_id in recording_ids}
    except ZIP_ERRORS:
        return False


def unpack_videos(output_dir: Path, chunk: str, recording_ids: Iterable[str]) -> set[str]:
    """Undo `pack_videos` for some of its recordings; the archive stays.

    Returns:
        Those whose video was whole and waits again.

    Raises:
        LedgerError: The disk is full.
    """
    whole: set[str] = set()
    if not archive_path(output_dir, chunk).is_file():
        return whole
    for recording_id in recording_ids:
        try:
            with (
                zipfile.ZipFile(archive_path(output_dir, chunk)) as archive,
                write_atomically(waiting_path(output_dir, recording_id)) as target,
                archive.open(member_name(recording_id)) as source,
            ):
                shutil.copyfileobj(source, target, BLOCK_BYTES)
        except (KeyError, *ZIP_ERRORS):
            continue  # the recording is cut again
        whole.add(recording_id)
    return whole
