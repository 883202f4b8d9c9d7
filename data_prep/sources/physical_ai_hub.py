"""PhysicalAI-AV as it lies on the Hub: paths from features.csv, chunk zips read where they are.

features.csv            feature, directory, chunk_path "camera/x/x.chunk_{chunk_id:04d}.zip", clip_files_in_zip (JSON)
clip_index.parquet      clip_id -> chunk
<chunk_path>            {clip_id}.<camera>.mp4, {clip_id}.<camera>.timestamps.parquet | {clip_id}.egomotion.parquet
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources.camera_tables import EXTRINSICS, INTRINSICS, plan_calibration
from data_prep.sources.clip_table import EGO_MOTION, NOT_VALID, ClipFacts, ClipTable, explain_absent
from data_prep.sources.names import make_id
from data_prep.zips import ZipListing, is_safe_name, list_zip
from driving.errors import SourceError
from driving.recording import RecordingRef

FEATURES_NAME = "features.csv"


@dataclass(frozen=True)
class Feature:
    """One row of features.csv: the names of a feature's archives and of the files in them, as templates."""

    name: str
    directory: str
    chunk_path_template: str
    file_templates: Mapping[str, str]

    def chunk_path(self, chunk: int) -> str:
        """The archive of one chunk, relative to the dataset's folder."""
        path = _fill(self.chunk_path_template, self.name, chunk_id=chunk)
        if not is_safe_name(path):
            raise SourceError(f"{FEATURES_NAME}: the chunk_path of {self.name} points outside the folder: {path!r}")
        return path

    def member(self, kind: str, clip_id: str) -> str:
        """The name of one of a clip's files inside the archive."""
        if kind not in self.file_templates:
            there = ", ".join(self.file_templates) or "none"
            raise SourceError(f"{FEATURES_NAME}: {self.name} lists no file {kind!r} of a clip (it lists: {there})")
        return _fill(self.file_templates[kind], self.name, clip_id=clip_id)


def is_hub(root: Path) -> bool:
    return (root / FEATURES_NAME).is_file() and (root / "clip_index.parquet").is_file()


def read_features(root: Path) -> dict[str, Feature]:
    """Read features.csv.

    Raises:
        SourceError: A column is missing, or `clip_files_in_zip` is no JSON object.
    """
    path = root / FEATURES_NAME
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["feature"]: _parse_feature(row, path) for row in csv.DictReader(file)}
    except KeyError as error:
        raise SourceError(f"{path} has no column {error}; download it again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({error}); download it again") from error


def _parse_feature(row: dict[str, str], path: Path) -> Feature:
    text = row["clip_files_in_zip"]
    try:
        files = json.loads(text) if text else {}  # a feature of plain parquet chunks has no files in a zip
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}: clip_files_in_zip of {row['feature']} is not JSON: {text!r}") from error
    return Feature(row["feature"], row["directory"], row["chunk_path"], files or {})


def _fill(template: str, feature: str, **values: object) -> str:
    try:
        return template.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{FEATURES_NAME}: the template {template!r} of {feature} cannot be filled: {error}"
        ) from error


def find_hub_cameras(root: Path, features: Mapping[str, Feature]) -> set[str]:
    """The cameras of which at least one chunk was downloaded."""
    cameras = [feature for feature in features.values() if feature.directory == "camera"]
    folders = {camera.name: (root / camera.chunk_path(0)).parent for camera in cameras}
    return {name for name, folder in folders.items() if any(folder.glob("*.zip"))}


def plan_hub(root: Path, camera: str, features: Mapping[str, Feature], table: ClipTable | None) -> list[RecordingRef]:
    """Refs of the clips that the index lists for the chunks whose camera archive is here.

    Raises:
        SourceError: features.csv does not list what is needed.
    """
    if table is None or camera not in features or EGO_MOTION not in features:
        raise SourceError(f"{root / FEATURES_NAME} does not list {camera} and {EGO_MOTION}; download it again")
    here = [chunk for chunk in table.chunks if (root / features[camera].chunk_path(chunk)).is_file()]
    tables = {name: features[name] for name in (INTRINSICS, EXTRINSICS) if name in features}
    listings = {chunk: _ChunkArchives(root, features[camera], features[EGO_MOTION], tables, chunk) for chunk in here}
    return [listings[clip.chunk].plan_clip(clip) for clip in table.read_chunks(here)]


class _ChunkArchives:
    """The two archives of one chunk, listed once: the camera's and the ego motion's; and its calibration, if any."""

    def __init__(
        self, root: Path, camera: Feature, ego_motion: Feature, tables: Mapping[str, Feature], chunk: int
    ) -> None:
        self.features = {"camera": camera, "ego_motion": ego_motion}
        self.paths = {kind: root / feature.chunk_path(chunk) for kind, feature in self.features.items()}
        paths = {name: root / feature.chunk_path(chunk) for name, feature in tables.items()}
        self.calibration = {name: str(path) for name, path in paths.items() if path.is_file()}
        self.listings: dict[str, ZipListing] = {}
        self.faults: list[str] = []  # what is wrong with the whole chunk
        for kind, path in self.paths.items():
            try:
                if not path.is_file():
                    raise SourceError(f"{path} is missing: the chunk's {kind} was not downloaded")
                self.listings[kind] = list_zip(path)
            except SourceError as error:
                self.faults.append(str(error))

    def plan_clip(self, clip: ClipFacts) -> RecordingRef:
        files = {
            "video": ("camera", self.features["camera"].member("video", clip.clip_id)),
            "frame_times": ("camera", self.features["camera"].member("frame_timestamps", clip.clip_id)),
            "ego_motion": ("ego_motion", self.features["ego_motion"].member("egomotion", clip.clip_id)),
        }
        return RecordingRef(
            recording_id=make_id(clip.clip_id),
            source="physical_ai",
            group=clip.clip_id,
            split=clip.split,
            place={
                **{name: [str(self.paths[kind]), member] for name, (kind, member) in files.items()},
                **plan_calibration(self.calibration, self.features["camera"].name),
            },
            metadata={"chunk": clip.chunk, **clip.metadata},
            **self._find_obstacle(clip, list(files.values())),
        )

    def _find_obstacle(self, clip: ClipFacts, files: list[tuple[str, str]]) -> dict[str, str]:
        """{"excluded": why} where the dataset leaves the clip out, {"fault": why} where its files are not whole."""
        if not clip.is_valid:
            return {"excluded": NOT_VALID}
        if self.faults:
            return {"fault": "; ".join(self.faults)}
        for kind, member in files:
            reason = self.listings[kind].explain_absence(member)
            feature = self.features[kind].name
            if reason and feature in clip.absent_features:
                return {"excluded": explain_absent(feature)}
            if reason:
                return {"fault": f"{self.paths[kind]}: {reason}; download the archive again"}
        return {}
