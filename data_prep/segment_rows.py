"""Rows of the index `segments.parquet`, and the part file that one finished recording leaves until its chunk is done.

metadata/recordings/<id>.arrow    rows of one recording; its skips and its input's fingerprint in the file's own
                                  metadata: one file, one rename, so a recording is done or is not
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from data_prep.segment_facts import FACTS
from data_prep.segment_labels import SegmentLabels
from data_prep.segment_plan import Segment, SegmentRules, is_of_segment
from driving.camera import format_camera
from driving.errors import LedgerError
from driving.ledger import Skip
from driving.motion_bins import mean_acceleration_mps2, mean_speed_mps, turn_deg
from driving.recording import Recording
from driving.whole_files import dump_json, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # the last bytes of an Arrow stream
PART_FOLDER = Path("metadata") / "recordings"
TRACK_COLUMNS = ("targets", "observed", "future_pose")
LABEL_COLUMNS = (*TRACK_COLUMNS, "future_times_s")
MOTION_COLUMNS = ("mean_speed_mps", "turn_deg", "mean_acceleration_mps2")


@dataclass(frozen=True)
class SegmentPlace:
    """Where a segment's pixels are.

    Attributes:
        path: as the user sees it: relative where the options were.
        height, width: of the frames found there.
        member, start_s, stop_s, frame_indices: for --cut index and scaled: where in a longer video, in its own time.
    """

    path: str
    height: int
    width: int
    member: str | None = None
    start_s: float | None = None
    stop_s: float | None = None
    frame_indices: list[int] | None = None


@dataclass(frozen=True)
class Part:
    """What one recording gave beside its rows.

    Attributes:
        skips: its ledger lines.
        fingerprint: of the input it was made from.
        num_labelled: rows with labels.
        num_told: rows whose motion facts are all known.
        num_rows: rows in its file.
    """

    recording_id: str
    skips: list[Skip]
    fingerprint: str
    num_labelled: int = 0
    num_told: int = 0
    num_rows: int = 0

    @property
    def is_failed(self) -> bool:
        """The recording as a whole could not be used."""
        return any(not is_of_segment(skip) and skip.stage != FACTS for skip in self.skips)


@cache
def row_schema() -> pa.Schema:
    """Columns of the index. T = frames of a segment, P = poses; targets and future_pose are null without labels."""
    import pyarrow as pa

    table, words = pa.list_(pa.list_(pa.float64())), pa.list_(pa.string())
    return pa.schema(
        {
            "segment_uuid": pa.string(),
            "clip_uuid": pa.string(),
            "start_second": pa.float64(),
            "video_path": pa.string(),
            "member": pa.string(),
            "video_start": pa.float64(),
            "video_end": pa.float64(),
            "frame_indices": pa.list_(pa.int64()),
            "fps": pa.float64(),
            "num_frames": pa.int64(),
            "height": pa.int64(),
            "width": pa.int64(),
            "source": pa.string(),
            "group": pa.string(),
            "split": pa.string(),
            "country": pa.string(),
            "hour": pa.int64(),
            "platform": pa.string(),
            "camera": pa.string(),  # driving.camera.format_camera, in units of the picture; null where not known
            "metadata": pa.string(),  # all that the source said, as a JSON object
            "has_labels": pa.bool_(),
            "targets": table,  # (T, 2) speed m/s, curvature 1/m
            "observed": table,  # (T, 2)
            "future_pose": table,  # (P + 1, 3) x m, y m, heading rad
            "future_times_s": pa.list_(pa.float64()),  # (P + 1,)
            "observed_facts": words,  # WINDOW_FACTS of the input; null where the motion gives labels, or there is none
            "target_facts": words,  # and of the second after it
            "clip_facts": words,  # MOTION_FACTS of the whole recording; null where it is not known throughout
            **dict.fromkeys(MOTION_COLUMNS, pa.float64()),  # of the target window, as in driving.motion_bins
        }
    )


def open_row_writer(file: IO[bytes]) -> pq.ParquetWriter:
    """A parquet file of the index. Tracks hardly repeat: to look them up in a dictionary takes a third of the time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    leaves = []
    for column in row_schema():
        path, kind = column.name, column.type
        while pa.types.is_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        leaves += [] if column.name in TRACK_COLUMNS else [path]
    return pq.ParquetWriter(file, row_schema(), compression="zstd", use_dictionary=leaves)


def build_rows(
    recording: Recording, segments: Sequence[Segment], places: Sequence[SegmentPlace], rules: SegmentRules
) -> pa.Table:
    """Rows of the index, one a segment of a recording."""
    import pyarrow as pa

    ref = recording.ref
    hour = ref.metadata.get("hour_of_day")
    labels = [segment.labels for segment in segments]
    facts = [segment.facts for segment in segments]
    same = {
        "clip_uuid": ref.recording_id,
        "fps": rules.fps,
        "num_frames": rules.num_frames,
        "source": ref.source,
        "group": ref.group,
        "split": ref.split,
        "country": _text(ref.metadata.get("country")),
        "hour": int(hour) if isinstance(hour, int | float) else None,
        "platform": _text(ref.metadata.get("platform_class")),
        "camera": None if recording.camera is None else format_camera(recording.camera),
        "metadata": dump_json(ref.metadata),
    }
    columns: dict[str, Any] = {
        **{name: [value] * len(segments) for name, value in same.items()},
        "segment_uuid": [segment.id for segment in segments],
        "start_second": [float(segment.start_s) for segment in segments],
        "video_path": [place.path for place in places],
        "member": [place.member for place in places],
        "video_start": [place.start_s for place in places],
        "video_end": [place.stop_s for place in places],
        "frame_indices": [place.frame_indices for place in places],
        "height": [place.height for place in places],
        "width": [place.width for place in places],
        "has_labels": [label is not None for label in labels],
        **{name: _nest([None if one is None else getattr(one, name) for one in labels]) for name in LABEL_COLUMNS},
        "observed_facts": [None if fact is None else fact.observed for fact in facts],
        "target_facts": [None if fact is None else fact.target for fact in facts],
        "clip_facts": [None if fact is None else fact.clip for fact in facts],
        **measure_motions(labels),
    }
    schema = row_schema()
    arrays = [
        columns[name] if isinstance(columns[name], pa.Array) else pa.array(columns[name], kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _nest(values: Sequence[np.ndarray | None]) -> pa.Array:
    """Arrays of (n,) or (n, k), n may differ -> a column of lists, or of lists of lists; null for none."""
    import pyarrow as pa

    there = [value for value in values if value is not None]
    if not there:
        return pa.nulls(len(values))
    inner = pa.array(np.concatenate([value.reshape(-1) for value in there]), pa.float64())
    if there[0].ndim == 2:
        starts = np.arange(sum(map(len, there)) + 1, dtype=np.int32) * there[0].shape[1]
        inner = pa.ListArray.from_arrays(starts, inner)
    lengths = [0 if value is None else len(value) for value in values]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    is_null = pa.array([value is None for value in values]) if len(there) < len(values) else None
    return pa.ListArray.from_arrays(pa.array(starts), inner, mask=is_null)


def measure_motions(labels: Sequence[SegmentLabels | None]) -> dict[str, list[float | None]]:
    """MOTION_COLUMNS of segments, over their target windows; None where there are no labels."""
    there = [place for place, one in enumerate(labels) if one is not None]
    found: dict[str, list[float | None]] = {name: [None] * len(labels) for name in MOTION_COLUMNS}
    if not there:
        return found
    velocity_mps = np.stack([labels[place].targets[:, 0] for place in there])
    num_samples = velocity_mps.shape[1]
    values = (
        mean_speed_mps(velocity_mps),
        turn_deg(np.stack([labels[place].future_pose[: num_samples + 1] for place in there])),
        mean_acceleration_mps2(velocity_mps, float(labels[there[0]].future_times_s[1])),
    )
    for name, column in zip(MOTION_COLUMNS, values, strict=True):
        for place, value in zip(there, column.tolist(), strict=True):
            found[name][place] = value
    return found


def part_path(output_dir: Path, recording_id: str) -> Path:
    return output_dir / PART_FOLDER / f"{recording_id}.arrow"


def write_part(output_dir: Path, part: Part, table: pa.Table) -> None:
    """Write a recording's part file; its presence says that all files of its segments are whole.

    Args:
        table: its rows, by start_second.
    """
    import pyarrow as pa

    facts = {
        "skips": dump_json([json.loads(skip.to_json()) for skip in part.skips]),
        "fingerprint": part.fingerprint,
        "num_labelled": str(part.num_labelled),
        "num_told": str(part.num_told),
        "num_rows": str(table.num_rows),
    }
    schema = row_schema().with_metadata(facts)
    # Not parquet: it lives until its chunk is done, and packing 19 rows takes ten times as long as writing them.
    with write_atomically(part_path(output_dir, part.recording_id)) as file, pa.ipc.new_stream(file, schema) as stream:
        stream.write_table(table.replace_schema_metadata(facts))


def read_part(path: Path) -> tuple[Part, pa.Table]:
    """Read a part file: what it says beside its rows, and the rows.

    Raises:
        FileNotFoundError: There is none.
        LedgerError: It is damaged.
    """
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return _read_facts(path, stream.schema), stream.read_all().replace_schema_metadata()
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise LedgerError(f"{path} is damaged ({error}); remove it, and run the same command again") from error


def read_part_table(path: Path) -> pa.Table:
    """The rows of a part file."""
    return read_part(path)[1]


def read_part_facts(path: Path) -> Part:
    """Read a part file without its rows."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return _read_facts(path, stream.schema)


def find_part(path: Path) -> Part | None:
    """What a part file says beside its rows; None where it is damaged or cut short."""
    import pyarrow as pa

    try:
        with path.open("rb") as file:
            file.seek(-len(END_OF_STREAM), os.SEEK_END)
            return read_part_facts(path) if file.read() == END_OF_STREAM else None
    except (pa.ArrowInvalid, OSError):
        return None


def _read_facts(path: Path, schema: pa.Schema) -> Part:
    facts = schema.metadata
    skips = [Skip(**skip) for skip in json.loads(facts[b"skips"])]
    counts = (int(facts[name]) for name in (b"num_labelled", b"num_told", b"num_rows"))
    return Part(path.stem, skips, facts[b"fingerprint"].decode(), *counts)


def seed_keys(row: dict[str, Any]) -> dict[str, Any]:
    """A row as `segments.json` shows it: the seed's keys first (means over the target, with their sign), then ours."""
    targets: Sequence[Sequence[float]] | None = row["targets"]
    speed = curvature = None
    if targets is not None:
        speed = sum(pair[0] for pair in targets) / len(targets)
        curvature = sum(pair[1] for pair in targets) / len(targets)
    start = row["start_second"]
    first = {
        "segment_uuid": row["segment_uuid"],
        "clip_uuid": row["clip_uuid"],
        "start_second": int(start) if start == int(start) else start,
        "video_path": row["video_path"],
        "target_velocity": None if speed is None else _format(speed, 1),
        "target_curvature": None if curvature is None else _format(curvature, 4),
        "target_velocity_raw": speed,
        "target_curvature_raw": curvature,
    }
    return first | {name: value for name, value in row.items() if name not in first}


def _format(value: float, num_decimals: int) -> str:
    return f"{round(value, num_decimals) + 0.0:.{num_decimals}f}"  # + 0.0 takes the sign off a zero


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
