"""What the tests of the download share: a run, and what lies on the disk after it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from data_prep.download.options import DownloadOptions
from data_prep.download.run import DownloadSummary, run

CAMERA = "camera_front_wide_120fov"
CAMERA_ZIP = f"camera/{CAMERA}/{CAMERA}.chunk_{{:04d}}.zip"
EGO_ZIP = "labels/egomotion/egomotion.chunk_{:04d}.zip"
CALIBRATION = ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions")
PAPERS = {".lock", "plan.json", "manifest.json", "skipped.jsonl"}


def fetch(root: Path, *chunks: int, **options) -> DownloadSummary:
    """Run the download in this process."""
    return run(
        DownloadOptions(
            chunk=tuple(range(chunk, chunk + 1) for chunk in chunks), output_dir=root, progress=False, **options
        )
    )


def hash_files(root: Path) -> dict[str, str]:
    """The SHA-256 of every file that is data, by path."""
    return {
        name: hashlib.sha256((root / name).read_bytes()).hexdigest()
        for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        if name not in PAPERS and not name.startswith(".download/")
    }


def whole_chunk(chunk: int) -> list[str]:
    """The files of a chunk, as on the Hub."""
    tables = [f"calibration/{name}/{name}.chunk_{chunk:04d}.parquet" for name in CALIBRATION]
    return [*tables, CAMERA_ZIP.format(chunk), EGO_ZIP.format(chunk)]


def clips_of(root: Path, chunk: int) -> list[str]:
    """The clips of a chunk, by the names in its archive of ego motion, sorted."""
    with zipfile.ZipFile(root / EGO_ZIP.format(chunk)) as archive:
        return sorted(name.removesuffix(".egomotion.parquet") for name in archive.namelist())


def clip_files(clip: str, chunk: int) -> list[str]:
    """The files of a single clip, as they lie here."""
    camera = [f"{clip}.{CAMERA}.{suffix}" for suffix in ("blurred_boxes.parquet", "mp4", "timestamps.parquet")]
    return [
        *(f"camera_chunk_{chunk:04d}/{name}" for name in camera),
        f"ego_motion_chunk_{chunk:04d}/{clip}.egomotion.parquet",
    ]
