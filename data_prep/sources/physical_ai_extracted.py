"""PhysicalAI-AV as seed 002's downloader leaves it: chunk archives unpacked into one folder each.

camera_chunk_0000/        <clip>.<camera>.mp4, <clip>.<camera>.timestamps.parquet
ego_motion_chunk_0000/    <clip>.egomotion.parquet
camera_intrinsics_chunk_0000.parquet, sensor_extrinsics_chunk_0000.parquet    calibration, where it is there
clip_index.parquet, metadata/, splits/    where the user put them beside; then splits and validity come from them
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from data_prep.sources.camera_tables import EXTRINSICS, INTRINSICS, plan_calibration
from data_prep.sources.clip_table import EGO_MOTION, NOT_VALID, ClipFacts, ClipTable, explain_absent
from data_prep.sources.ego_motion_table import SUFFIX as EGO_MOTION_SUFFIX
from data_prep.sources.names import make_id
from data_prep.zips import is_safe_name
from driving.recording import RecordingRef

CHUNK_FOLDER = re.compile(r"camera_chunk_(\d+)")
CAMERA_FILE = re.compile(r"(.+)\.(camera_\w+)\.(mp4|timestamps\.parquet)")


def is_extracted(root: Path) -> bool:
    return any(_find_chunks(root))


def _find_chunks(root: Path) -> Iterable[tuple[int, Path]]:
    for folder in sorted(root.glob("camera_chunk_*")):
        found = CHUNK_FOLDER.fullmatch(folder.name)
        if found and folder.is_dir():
            yield int(found[1]), folder


def find_extracted_cameras(root: Path) -> set[str]:
    """The cameras that any chunk folder holds files of."""
    files = [CAMERA_FILE.fullmatch(path.name) for _, folder in _find_chunks(root) for path in folder.iterdir()]
    return {found[2] for found in files if found}


def plan_extracted(root: Path, camera: str, table: ClipTable | None) -> list[RecordingRef]:
    """Refs of every clip that a chunk's folders, or the index, say is there."""
    chunks = dict(_find_chunks(root))
    drawn = {"platform_class": "synthetic"} if _is_drawn(root) else {}
    listed: dict[int, dict[str, ClipFacts]] = {chunk: {} for chunk in chunks}
    for clip in table.read_chunks(list(chunks)) if table else []:
        listed[clip.chunk][clip.clip_id] = clip
    refs = []
    for chunk, folder in chunks.items():
        ego_folder = root / folder.name.replace("camera", "ego_motion", 1)
        calibration = _find_calibration(root, folder.name)
        for clip_id in sorted(set(listed[chunk]) or _find_clips(folder, ego_folder, camera)):
            clip = listed[chunk].get(clip_id) or ClipFacts(clip_id, chunk)
            clip = replace(clip, metadata={**drawn, **clip.metadata})
            refs.append(_plan_clip(clip, folder, ego_folder, camera, calibration))
    return refs


def _find_calibration(root: Path, chunk_folder: str) -> dict[str, str]:
    """The calibration tables of a chunk, as far as they are there, by name."""
    chunk = chunk_folder.removeprefix("camera_")
    paths = {name: root / f"{name}_{chunk}.parquet" for name in (INTRINSICS, EXTRINSICS)}
    return {name: str(path) for name, path in paths.items() if path.is_file()}


def _is_drawn(root: Path) -> bool:
    """Whether make_synthetic_recordings.py wrote this folder: the extracted layout has no metadata to say so."""
    try:
        return json.loads((root / "plan.json").read_text(encoding="utf-8"))["tool"] == "synthetic recordings"
    except (OSError, ValueError, KeyError, TypeError):
        return False  # there is none, or it is somebody else's


def _find_clips(folder: Path, ego_folder: Path, camera: str) -> set[str]:
    """The clips of a chunk by its files: a chunk is unpacked as a whole, so a clip with any file should have all."""
    files = [CAMERA_FILE.fullmatch(path.name) for path in folder.iterdir()]
    clips = {found[1] for found in files if found and found[2] == camera}
    return clips | {path.name.removesuffix(EGO_MOTION_SUFFIX) for path in ego_folder.glob(f"*{EGO_MOTION_SUFFIX}")}


def _plan_clip(
    clip: ClipFacts, folder: Path, ego_folder: Path, camera: str, calibration: dict[str, str]
) -> RecordingRef:
    files = {
        "video": folder / f"{clip.clip_id}.{camera}.mp4",
        "frame_times": folder / f"{clip.clip_id}.{camera}.timestamps.parquet",
        "ego_motion": ego_folder / f"{clip.clip_id}{EGO_MOTION_SUFFIX}",
    }
    needed = {"video": camera, "frame_times": camera, "ego_motion": EGO_MOTION}
    missing = {name: str(path) for name, path in files.items() if not path.is_file()}
    denied = [needed[name] for name in missing if needed[name] in clip.absent_features]
    fault = excluded = ""
    if not is_safe_name(clip.clip_id):
        fault = f"clip id {clip.clip_id!r} points outside the folder and is not opened"
    elif not clip.is_valid:
        excluded = NOT_VALID
    elif denied:
        excluded = explain_absent(denied[0])
    elif missing:
        fault = f"missing: {', '.join(missing.values())}; download the chunk again"
    return RecordingRef(
        recording_id=make_id(clip.clip_id),
        source="physical_ai",
        group=clip.clip_id,
        split=clip.split,
        place={**{name: [str(path), ""] for name, path in files.items()}, **plan_calibration(calibration, camera)},
        metadata={"chunk": clip.chunk, **clip.metadata},
        fault=fault,
        excluded=excluded,
    )
