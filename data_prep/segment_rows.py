"""Rows of the index `segments.parquet`, and the part file that one finished recording leaves until its chunk is done.

metadata/recordings/<id>.parquet    rows of one recording; its skips and its input's fingerprint in the file's own
                                    metadata: one file, one rename, so a recording is done or is not
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.segment_facts import FACTS
from data_prep.segment_labels import SegmentLabels
from data_prep.segment_plan import Segment, SegmentRules, is_of_segment
from driving.camera import format_camera
from driving.ledger import Skip, dump_json, write_atomically
from driving.motion_bins import mean_acceleration_mps2, mean_speed_mps, turn_deg
from driving.recording import Recording

if TYPE_CHECKING:
    import pyarrow as pa

PART_FOLDER = Path("metadata") / "recordings"
MOTION_COLUMNS = ("mean_speed_mps", "turn_deg", "mean_acceleration_mps2")


@dataclass(frozen=True)
class SegmentPlace:
    """Where a segment's pixels are.

    Attributes:
        path: as the user sees it: relative where the options were.
        height, width: of the frames found there.
        member, start_s, stop_s, frame_indices: only for --cut index: where in the recording, in the container's time.
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
    """What one recording gave.

    Attributes:
        rows: of the index, by start_second.
        skips: its ledger lines.
        fingerprint: of the input it was made from.
        num_labelled: rows with labels.
        num_told: rows whose motion facts are all known.
    """

    recording_id: str
    rows: list[dict[str, Any]]
    skips: list[Skip]
    fingerprint: str
    num_labelled: int = 0
    num_told: int = 0

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


def build_row(recording: Recording, segment: Segment, place: SegmentPlace, rules: SegmentRules) -> dict[str, Any]:
    """One row of the index."""
    ref, labels, facts = recording.ref, segment.labels, segment.facts
    hour = ref.metadata.get("hour_of_day")
    return {
        "segment_uuid": segment.id,
        "clip_uuid": ref.recording_id,
        "start_second": float(segment.start_s),
        "video_path": place.path,
        "member": place.member,
        "video_start": place.start_s,
        "video_end": place.stop_s,
        "frame_indices": place.frame_indices,
        "fps": rules.fps,
        "num_frames": rules.num_frames,
        "height": place.height,
        "width": place.width,
        "source": ref.source,
        "group": ref.group,
        "split": ref.split,
        "country": _text(ref.metadata.get("country")),
        "hour": int(hour) if isinstance(hour, int | float) else None,
        "platform": _text(ref.metadata.get("platform_class")),
        "camera": None if recording.camera is None else format_camera(recording.camera),
        "metadata": dump_json(ref.metadata),
        "has_labels": labels is not None,
        "targets": None if labels is None else labels.targets.tolist(),
        "observed": None if labels is None else labels.observed.tolist(),
        "future_pose": None if labels is None else labels.future_pose.tolist(),
        "future_times_s": None if labels is None else labels.future_times_s.tolist(),
        "observed_facts": None if facts is None else facts.observed,
        "target_facts": None if facts is None else facts.target,
        "clip_facts": None if facts is None else facts.clip,
        **dict.fromkeys(MOTION_COLUMNS),
        **({} if labels is None else measure_motion(labels)),
    }


def measure_motion(labels: SegmentLabels) -> dict[str, float]:
    """MOTION_COLUMNS of one segment, over its target window."""
    velocity_mps = labels.targets[None, :, 0]
    num_samples = velocity_mps.shape[1]
    values = (
        mean_speed_mps(velocity_mps),
        turn_deg(labels.future_pose[None, : num_samples + 1]),
        mean_acceleration_mps2(velocity_mps, float(labels.future_times_s[1])),
    )
    return {name: float(value[0]) for name, value in zip(MOTION_COLUMNS, values, strict=True)}


def part_path(output_dir: Path, recording_id: str) -> Path:
    return output_dir / PART_FOLDER / f"{recording_id}.parquet"


def write_part(output_dir: Path, part: Part, table: pa.Table | None = None) -> None:
    """Write a recording's part file; its presence says that all files of its segments are whole.

    Args:
        table: its rows, where they are a table already.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {
        "skips": dump_json([json.loads(skip.to_json()) for skip in part.skips]),
        "fingerprint": part.fingerprint,
        "num_labelled": str(part.num_labelled),
        "num_told": str(part.num_told),
    }
    table = pa.Table.from_pylist(part.rows, schema=row_schema()) if table is None else table
    table = table.replace_schema_metadata(facts)
    with write_atomically(part_path(output_dir, part.recording_id)) as file:
        pq.write_table(table, file)


def read_part_facts(path: Path) -> Part:
    """Read a part file without its rows."""
    import pyarrow.parquet as pq

    facts = pq.read_schema(path).metadata
    skips = [Skip(**skip) for skip in json.loads(facts[b"skips"])]
    counts = (int(facts[name]) for name in (b"num_labelled", b"num_told"))
    return Part(path.stem, [], skips, facts[b"fingerprint"].decode(), *counts)


def read_part_table(path: Path) -> pa.Table:
    """Read a part file's rows."""
    import pyarrow.parquet as pq

    return pq.read_table(path, partitioning=None).cast(row_schema())


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
