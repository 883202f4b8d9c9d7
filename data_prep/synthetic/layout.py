"""Where the files of a synthetic dataset lie: PhysicalAI-AV's hub layout, or the seed's extracted one.

    hub        features.csv  clip_index.parquet  metadata/*.parquet
               camera/<camera>/<camera>.chunk_0000.zip      labels/egomotion/egomotion.chunk_0000.zip
               calibration/<table>/<table>.chunk_0000.parquet
    extracted  camera_chunk_0000/*  ego_motion_chunk_0000/*  <table>_chunk_0000.parquet      no index, no splits

Finished clips wait under `.clips/` until their chunk is whole; archives are stored, not compressed, with fixed dates.
Source: research/seeds-and-formats.md 1.6 and 4.1.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.synthetic.camera import CAMERA_FORWARD_M, CAMERA_HEIGHT_M, CAMERA_QUATERNION, Camera
from data_prep.synthetic.clip import CAMERA_NAME, ClipPlan, draw_metadata
from driving.whole_files import write_atomically, write_text

LAYOUTS = ("hub", "extracted")
PRESENCE_FILES = ("feature_presence", "sensor_presence")
CAMERA_MEMBERS = {"video": "mp4", "frame_timestamps": "timestamps.parquet", "blurred_boxes": "blurred_boxes.parquet"}
CALIBRATION_TABLES = ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions")
WAITING = ".clips"


def camera_member(clip_id: str, suffix: str) -> str:
    return f"{clip_id}.{CAMERA_NAME}.{suffix}"


def ego_member(clip_id: str) -> str:
    return f"{clip_id}.egomotion.parquet"


def clip_paths(root: Path, layout: str, plan: ClipPlan) -> dict[str, Path]:
    """Where a finished clip's files are written, by what they are. The video's presence means: all are there."""
    if layout == "extracted":
        camera_dir, ego_dir = root / f"camera_chunk_{plan.chunk:04d}", root / f"ego_motion_chunk_{plan.chunk:04d}"
    else:
        camera_dir = ego_dir = root / WAITING
    paths = {suffix: camera_dir / camera_member(plan.clip_id, suffix) for suffix in CAMERA_MEMBERS.values()}
    return {"egomotion": ego_dir / ego_member(plan.clip_id), **paths}


def chunk_archives(root: Path, chunk: int) -> tuple[Path, Path]:
    """(camera archive, ego-motion archive) of a chunk in the hub layout."""
    return (
        root / "camera" / CAMERA_NAME / f"{CAMERA_NAME}.chunk_{chunk:04d}.zip",
        root / "labels" / "egomotion" / f"egomotion.chunk_{chunk:04d}.zip",
    )


def write_chunk(root: Path, chunk: int, plans: Sequence[ClipPlan]) -> None:
    """Pack the waiting clips of one chunk into its two archives."""
    camera_archive, ego_archive = chunk_archives(root, chunk)
    waiting = root / WAITING
    names = [camera_member(plan.clip_id, suffix) for plan in plans for suffix in CAMERA_MEMBERS.values()]
    _write_archive(camera_archive, waiting, names)
    _write_archive(ego_archive, waiting, [ego_member(plan.clip_id) for plan in plans])


def is_packed(root: Path, chunk: int) -> bool:
    return all(path.exists() for path in chunk_archives(root, chunk))


def remove_waiting(root: Path) -> None:
    """Drop the waiting clips, once every chunk is packed."""
    shutil.rmtree(root / WAITING, ignore_errors=True)


def _write_archive(path: Path, folder: Path, names: Sequence[str]) -> None:
    if path.exists():
        return
    with write_atomically(path) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, (folder / name).read_bytes())


def write_calibration(root: Path, layout: str, chunk: int, plans: Sequence[ClipPlan], camera: Camera) -> None:
    """Intrinsics (f-theta polynomials), extrinsics (vehicle frame) and vehicle dimensions of one chunk."""
    import pandas as pd

    clip_ids = [plan.clip_id for plan in plans]
    by_camera = pd.MultiIndex.from_product([clip_ids, [CAMERA_NAME]], names=["clip_id", "camera_name"])
    by_sensor = by_camera.set_names(["clip_id", "sensor_name"])
    tables = {
        "camera_intrinsics": pd.DataFrame([camera.intrinsics()] * len(plans), index=by_camera),
        "sensor_extrinsics": pd.DataFrame([_extrinsics()] * len(plans), index=by_sensor),
        "vehicle_dimensions": pd.DataFrame([_dimensions()] * len(plans), index=pd.Index(clip_ids, name="clip_id")),
    }
    for name in CALIBRATION_TABLES:
        hub_path = root / "calibration" / name / f"{name}.chunk_{chunk:04d}.parquet"
        _write_table(hub_path if layout == "hub" else root / f"{name}_chunk_{chunk:04d}.parquet", tables[name])


def _extrinsics() -> dict[str, float]:
    rotation = dict(zip(("qx", "qy", "qz", "qw"), CAMERA_QUATERNION, strict=True))
    return {**rotation, "x": CAMERA_FORWARD_M, "y": 0.0, "z": CAMERA_HEIGHT_M}


def _dimensions() -> dict[str, float]:
    return {
        "length": 4.9,
        "width": 1.9,
        "height": 1.5,
        "rear_axle_to_bbox_center": 1.4,
        "wheelbase": 2.9,
        "track_width": 1.6,
    }


def write_index(root: Path, plans: Sequence[ClipPlan], seed: int, presence: str) -> None:
    """features.csv, clip_index.parquet and metadata/ of the hub layout."""
    import pandas as pd

    write_text(root / "features.csv", _features_csv())
    ids = pd.Index([plan.clip_id for plan in plans], name="clip_id")
    index = {
        "chunk": [plan.chunk for plan in plans],
        "split": [plan.split for plan in plans],
        "clip_is_valid": [plan.is_valid for plan in plans],
    }
    _write_table(root / "clip_index.parquet", pd.DataFrame(index, index=ids))
    rows = [draw_metadata(seed, plan.index, plan.country) for plan in plans]
    _write_table(root / "metadata" / "data_collection.parquet", pd.DataFrame(rows, index=ids))
    features: dict[str, Any] = dict.fromkeys((CAMERA_NAME, "egomotion", *CALIBRATION_TABLES), True)
    if presence == "sensor_presence":  # revisions before 26.03 carry a text column beside the bools
        features["radar_config"] = "none"
    _write_table(root / "metadata" / f"{presence}.parquet", pd.DataFrame(features, index=ids))


def _features_csv() -> str:
    import csv
    import io

    camera_members = {alias: "{clip_id}." + f"{CAMERA_NAME}.{suffix}" for alias, suffix in CAMERA_MEMBERS.items()}
    rows = [
        (CAMERA_NAME, "camera", "zip", json.dumps(camera_members)),
        ("egomotion", "labels", "zip", json.dumps({"egomotion": "{clip_id}.egomotion.parquet"})),
        *((name, "calibration", "parquet", "") for name in CALIBRATION_TABLES),
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["feature", "directory", "chunk_path", "clip_files_in_zip"])
    for feature, directory, kind, members in rows:
        chunk_path = f"{directory}/{feature}/{feature}.chunk_{{chunk_id:04d}}.{kind}"
        writer.writerow([feature, directory, chunk_path, members])
    return text.getvalue()


def _write_table(path: Path, table: Any) -> None:
    with write_atomically(path) as handle:
        table.to_parquet(handle)
