"""What the frames of training and test clips show to a baseline without a network: chosen, decoded once, kept.

    train.json beside the data ──choose_train_rows──▶ records ─┐
    rows that were asked ──────────────────────────────────────┴─read_features──▶ FrameRows
                                                 frame_features.npz in the evaluation's folder: decoded only once

Clips are read as for the model (its preprocessing, its prepared cache); to a blind model's baseline as it would have
seen them. T = label samples, F = features.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from driving.errors import DrivingError, VideoError
from driving.records import record_name
from driving.row_choice import choose_evenly
from driving.whole_files import write_atomically
from driving.zip_errors import ZIP_ERRORS
from evaluation.scoring.frame_features import FEATURE_VERSION, measure_frames
from evaluation.scoring.frame_motion import MAX_FRAME_ROWS, FrameMotion, FrameRows, predict_frame_motion
from evaluation.scoring.truth import Truth

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions
    from evaluation.planning import Run
    from qwenvl.data.preprocessing import Preprocessing

Record = dict[str, Any]
CACHE_NAME = "frame_features.npz"
TRAIN_NAMES = ("train.json", "train.index.json")  # the second where rows point into recordings
READERS = 2


def find_train_json(options: EvaluateOptions) -> Path:
    """The training rows beside the truth that the training mean comes from.

    Raises:
        DrivingError: They are not there.
    """
    folder = (options.train_truth or options.test_data).parent
    for name in TRAIN_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise DrivingError(
        f"--frame-baseline learns from the clips of {folder / TRAIN_NAMES[0]}, which is not there; run "
        "convert_to_training_format.py again, or leave it out"
    )


def answer_from_frames(folder: Path, planned: Run, truth: Truth, options: EvaluateOptions) -> FrameMotion:
    """The baseline's answers to the rows of `truth`; the features go into `folder`, where they are looked for first.

    Raises:
        DrivingError: There is no train.json, or the prepared cache holds other pixels.
    """
    path = find_train_json(options)
    records, train = choose_train_rows(path, planned, options.seed)
    by_name = {record_name(record): record for record in planned.job.records}
    asked = [by_name[name] for name in truth.ids]
    reader = ClipReader.build(planned, [options.test_data.parent, path.parent, Path.cwd()], options.prepared_dir)
    features = read_features([*records, *asked], reader, folder / CACHE_NAME)
    shown, of_train = features[len(records) :], features[: len(records)]
    known = ~np.isnan(of_train).any(axis=1)
    targets = np.stack([train.velocity_mps, train.curvature_per_m], axis=-1)
    rows = FrameRows(shown, of_train[known], targets[known], train.groups[known])
    found = predict_frame_motion(rows)
    unreadable = {"train": int((~known).sum()), "test": int(np.isnan(shown).any(axis=1).sum())}
    return FrameMotion(found.motion, {**found.facts, "num_unreadable": unreadable})


def choose_train_rows(path: Path, planned: Run, seed: int) -> tuple[list[Record], Truth]:
    """At most MAX_FRAME_ROWS labelled training rows, spread over the recordings, none of them asked about; and their
    motion in the same order."""
    from qwenvl.data.dataset import read_records

    asked = {record_name(record) for record in planned.job.records}
    records = [record for record in read_records(path) if record_name(record) not in asked]
    records = [records[row] for row in choose_evenly(records, MAX_FRAME_ROWS, seed)]
    truth = planned.train_table.rows([record_name(record) for record in records])
    truth = truth.take(np.array([row for row, fact in enumerate(truth.facts) if fact["split"] == "train"], np.int64))
    by_name = {record_name(record): record for record in records}
    return [by_name[name] for name in truth.ids], truth


@dataclass(frozen=True)
class ClipReader:
    """Reads a row's clip as the model is shown it.

    Attributes:
        folders: where relative paths are looked for.
        prepared: a prepared cache, whose frames are taken where it holds them.
        entries: its rows, by the hash of the frames they hold.
    """

    preprocessing: Preprocessing
    folders: Sequence[Path]
    prepared: Any = None
    entries: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def build(cls, planned: Run, folders: Sequence[Path], prepared_dir: Path | None) -> ClipReader:
        """With the preprocessing of the checkpoint; a model without one sees clips at the dataset's own rate.

        Raises:
            DrivingError: The prepared cache holds other pixels.
        """
        from qwenvl.data.prepared import PreparedCache
        from qwenvl.data.preprocessing import Preprocessing

        stored = planned.checkpoint.preprocessing
        if stored is None:
            fps = planned.dataset.get("fps")
            stored = {"video_fps": float(fps)} if fps else {}
        preprocessing = Preprocessing(**{**stored, "blind": False})
        if prepared_dir is None:
            return cls(preprocessing, folders)
        prepared = PreparedCache.read(prepared_dir)
        prepared.check_pixels(preprocessing)
        entries = defaultdict(list)
        for entry in prepared.entries:
            if not entry.reason:
                entries[entry.frames].append(entry)
        return cls(preprocessing, folders, prepared, entries)

    def identify(self, record: Record) -> tuple[str, str]:
        """What the features of a row depend on: (what is asked for, the files as they are; "" where they are gone)."""
        from qwenvl.data.identity import hash_frames, hash_text, identify_files, identify_pixels

        pixels = json.dumps(identify_pixels(self.preprocessing), sort_keys=True)
        try:
            files = str(identify_files(record, self.folders))
        except VideoError:
            files = ""
        return hash_text(f"{FEATURE_VERSION} {pixels} {hash_frames(record)}"), files

    def measure(self, record: Record) -> np.ndarray | None:
        """(F,) float32; None where the row has no clip that can be read."""
        try:
            clips = self._read(record)
        except DrivingError:
            return None
        return measure_frames(clips[0].frames, clips[0].fps) if clips else None

    def _read(self, record: Record) -> list[Any]:
        from qwenvl.data.clips import read_clips
        from qwenvl.data.identity import hash_frames
        from qwenvl.data.prepared import find_change

        for entry in self.entries.get(hash_frames(record), ()):
            if not find_change(entry, self.folders):
                return self.prepared.read_clips(entry)
        return read_clips(record, self.preprocessing, self.folders)


def read_features(records: Sequence[Record], reader: ClipReader, cache: Path) -> np.ndarray:
    """(N, F) float32, NaN where a clip cannot be read; what is not in the cache is decoded and added to it."""
    from tqdm import tqdm

    from qwenvl.data.identity import identify_media

    identify_media.cache_clear()
    kept = _read_cache(cache)
    wanted = [reader.identify(record) for record in records]
    found: list[np.ndarray | None] = [_find(kept, *identity) for identity in wanted]
    missing = [row for row, features in enumerate(found) if features is None]
    with ThreadPoolExecutor(READERS) as readers:
        measured = readers.map(reader.measure, [records[row] for row in missing])
        bar = tqdm(measured, total=len(missing), unit="clip", desc="frame baseline", disable=not missing)
        for row, features in zip(missing, bar, strict=True):
            found[row] = features
    if missing:
        _write_cache(cache, wanted, found)
    width = max((len(features) for features in found if features is not None), default=1)
    blank = np.full(width, np.nan, np.float32)
    return np.array([blank if features is None else features for features in found], np.float32).reshape(-1, width)


def _find(kept: dict[str, tuple[str, np.ndarray]], key: str, files: str) -> np.ndarray | None:
    """The row's features, unless its files are here and are others."""
    then, features = kept.get(key, ("", None))
    return features if not files or files == then else None


def _read_cache(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """{key: (files, features)}; nothing where there is none, or one that was damaged: then all is decoded again."""
    try:
        with np.load(path) as stored:
            columns = stored["keys"].tolist(), stored["files"].tolist(), stored["features"]
            return {key: (files, row) for key, files, row in zip(*columns, strict=True)}
    except (*ZIP_ERRORS, OSError, ValueError, KeyError):
        return {}


def _write_cache(path: Path, wanted: Sequence[tuple[str, str]], found: Sequence[np.ndarray | None]) -> None:
    rows = {
        key: (files, features) for (key, files), features in zip(wanted, found, strict=True) if features is not None
    }
    with write_atomically(path) as handle:
        np.savez(
            handle,
            keys=np.array(list(rows), dtype=str),
            files=np.array([files for files, _ in rows.values()], dtype=str),
            features=np.array([features for _, features in rows.values()], np.float32),
        )
