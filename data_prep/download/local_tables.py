"""The folder as the source readers want it: the dataset's tables, and never the same clip twice.

Whole chunks lie as on the Hub, single clips in the folders of an unpacked chunk. clip_index.parquet is the dataset's
own, byte for byte, as long as only whole chunks are here; of a chunk of which only single clips are here it lists those
alone, or every other clip of that chunk would be a fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from data_prep.download.choice import CALIBRATION, Choice, chunk_path, table_target
from data_prep.download.records import Records
from data_prep.download.tables import Tables
from data_prep.sources.physical_ai_extracted import CAMERA_FILE, CHUNK_FOLDER
from driving.errors import SourceError
from driving.whole_files import write_atomically

INDEX_NAME = "clip_index.parquet"
OTHER_PLACE = "name another --output-dir, or move that folder away"


def check_places(root: Path, choice: Choice, tables: Tables, records: Records) -> None:
    """Raise SourceError where a chunk would lie here both whole and in single clips."""
    for chunk in choice.chunks:
        folder = root / f"camera_chunk_{chunk:04d}"
        for name in sorted(path.name for path in folder.glob("*")):
            if f"{folder.name}/{name}" not in records.known:
                raise SourceError(f"{folder} holds files that were not fetched by this tool ({name}); {OTHER_PLACE}")
            camera = CAMERA_FILE.fullmatch(name)
            if camera and camera[2] not in choice.cameras:
                raise SourceError(
                    f"{folder} holds single clips of {camera[2]} too; fetch that whole as well "
                    f"(--camera {' '.join((*choice.cameras, camera[2]))}), or {OTHER_PLACE}"
                )
    for chunk in choice.clips or {}:
        whole = [name for name in tables.cameras if _is_here(root, tables, chunk, name)]
        missing = [name for name in choice.archives if not _is_here(root, tables, chunk, name)]
        if whole and missing:
            raise SourceError(
                f"chunk {chunk:04d} lies whole in {root}, but without {missing[0]}; "
                f"fetch that with --chunk {chunk:04d} --camera {' '.join(choice.cameras)}, or name another --output-dir"
            )


def list_whole(root: Path, choice: Choice, tables: Tables) -> set[int]:
    """The chunks of the single clips asked for that are here whole: their clips are here."""
    return {
        chunk
        for chunk in choice.clips or {}
        if all(_is_here(root, tables, chunk, name) for name in choice.archives)
    }  # fmt: skip


def _is_here(root: Path, tables: Tables, chunk: int, feature: str) -> bool:
    path = chunk_path(tables, chunk, feature)
    return bool(path) and (root / path).is_file()


def drop_single_clips(root: Path, chunks: Sequence[int], records: Records) -> int:
    """Remove the single clips of chunks that are here whole now; returns how many files that were."""
    num_dropped = 0
    for chunk in chunks:
        folders = (root / f"camera_chunk_{chunk:04d}", root / f"ego_motion_chunk_{chunk:04d}")
        files = [path for folder in folders for path in folder.glob("*")]
        files += [path for name in CALIBRATION if (path := root / table_target(chunk, name)).is_file()]
        for path in files:
            if path.relative_to(root).as_posix() in records.known:
                path.unlink()
                num_dropped += 1
        for folder in folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return num_dropped


def write_tables(root: Path, tables: Tables) -> None:
    """Put the dataset's tables where the readers look for them; the index last."""
    for name in sorted(tables.names):
        if name != INDEX_NAME:
            _write_bytes(root / name, (tables.folder / name).read_bytes())
    single = _find_single_clips(root)
    if not single:
        _write_bytes(root / INDEX_NAME, (tables.folder / INDEX_NAME).read_bytes())
        return
    import pandas as pd

    index = pd.read_parquet(tables.folder / INDEX_NAME)
    here = {clip for clips in single.values() for clip in clips}
    kept = index[~index["chunk"].isin(list(single)) | index.index.isin(list(here))]
    with write_atomically(root / INDEX_NAME) as handle:
        kept.to_parquet(handle)


def _find_single_clips(root: Path) -> dict[int, set[str]]:
    """Chunk -> clips whose ego motion and at least one camera's video and clock lie in the folders of a chunk."""
    found: dict[int, set[str]] = {}
    for folder in sorted(root.glob("camera_chunk_*")):
        number = CHUNK_FOLDER.fullmatch(folder.name)
        if not number:
            continue
        names = {path.name for path in folder.iterdir()}
        files = [CAMERA_FILE.fullmatch(name) for name in names]
        clips = {
            file[1]
            for file in files
            if file and file[3] == "mp4" and f"{file[1]}.{file[2]}.timestamps.parquet" in names
        }
        ego_folder = root / f"ego_motion_chunk_{number[1]}"
        ego = {re.sub(r"\.egomotion\.parquet$", "", path.name) for path in ego_folder.glob("*.egomotion.parquet")}
        found[int(number[1])] = clips & ego
    return found


def _write_bytes(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    with write_atomically(path) as handle:
        handle.write(content)
