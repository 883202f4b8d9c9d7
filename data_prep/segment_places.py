"""Where the pixels of a recording's segments are put, one way for each --cut, and which segments can be read at all.

resized, copy   video_segments/<segment>.mp4          a file each
scaled          videos/waiting/<recording>.mp4        one file, packed when its chunk is finished
index           the recording itself                  nothing is written
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.chunk_videos import member_name, waiting_path
from data_prep.scaled_video import encode_scaled, plan_scaled
from data_prep.segment_options import SCALED
from data_prep.segment_pixels import RESIZED, SegmentFile, copy_segments, encode_segments
from data_prep.segment_plan import Segment, SegmentRules, skip_segment
from data_prep.segment_rows import SegmentPlace
from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.frame_size import plan_frame_size
from driving.ledger import Skip
from driving.recording import Recording
from video_io import VideoInfo
from video_io.decode_pyav import iter_decoded

if TYPE_CHECKING:
    from data_prep.segment_work import CutJob

VIDEO_FOLDER = "video_segments"


def find_frame_times(recording: Recording, info: VideoInfo) -> np.ndarray:
    """(F,) int64 us on the recording's clock: the sensor's own times, else the container's.

    Raises:
        VideoError: There are none, or as many as there are frames they are not.
    """
    if recording.frame_times_us is None:
        if info.frame_times_us is None:
            raise VideoError(f"{recording.video} tells no frame times; remux it into mp4")
        return info.frame_times_us
    if len(recording.frame_times_us) != info.num_frames:
        raise VideoError(
            f"{recording.video} holds {info.num_frames} frames, its list of times {len(recording.frame_times_us)}; "
            "download both again"
        )
    return recording.frame_times_us


def segment_path(job: CutJob, segment: Segment) -> Path:
    return job.output_dir / VIDEO_FOLDER / f"{segment.id}.mp4"


def remove_videos(job: CutJob, segments: Sequence[Segment] | None) -> None:
    """Take back what the job may have written, of these segments; None is of all that are found, which takes a look."""
    waiting_path(job.output_dir, job.ref.recording_id).unlink(missing_ok=True)
    if segments is None:
        name = f"{glob.escape(job.ref.recording_id)}_seg_*.mp4"
        paths = list((job.output_dir / VIDEO_FOLDER).glob(name))
    else:
        paths = [segment_path(job, segment) for segment in segments]
    for path in paths:
        path.unlink(missing_ok=True)


def cut_readable(
    job: CutJob, recording: Recording, info: VideoInfo, segments: list[Segment]
) -> tuple[list[Segment], list[SegmentPlace], list[Skip]]:
    """Cut all segments at once; where a frame cannot be read, one by one, and leave out those that need it.

    Raises:
        VideoError: No segment can be read.
    """
    try:
        return segments, _cut(job, recording, info, segments), []
    except VideoError as error:
        first_error = error
    kept, places, skips = [], [], []
    for segment in segments:
        try:
            _check_readable(recording, info, segment)
            places += _cut(job, recording, info, [segment]) if job.cut != SCALED else []
            kept.append(segment)
        except VideoError as error:
            segment_path(job, segment).unlink(missing_ok=True)
            skips.append(skip_segment(segment.id, "cut", str(error), segment.start_s))
    if not kept:
        raise first_error
    if job.cut == SCALED:  # the segments share one file
        places = _cut(job, recording, info, kept)
    return kept, places, skips


def _check_readable(recording: Recording, info: VideoInfo, segment: Segment) -> None:
    """Decode from the key frame on, each frame: one that follows a broken one may look whole and be made up."""
    first, last = int(segment.frame_indices[0]), int(segment.frame_indices[-1])
    start = int(np.flatnonzero(info.is_key_frame[: first + 1])[-1]) if info.is_key_frame[: first + 1].any() else 0
    for _ in iter_decoded(recording.video, range(start, last + 1), info=info):
        pass


def _cut(job: CutJob, recording: Recording, info: VideoInfo, segments: Sequence[Segment]) -> list[SegmentPlace]:
    if job.cut == "index":
        return _point_into(recording, info, segments, job.rules)
    if job.cut == SCALED:
        return _cut_scaled(job, recording, info, segments)
    files = [SegmentFile(segment_path(job, segment), segment.frame_indices) for segment in segments]
    if job.cut == "copy":
        height, width = info.height // 2 * 2, info.width // 2 * 2
        copy_segments(recording.video, info, files, fps=job.rules.fps, num_threads=job.num_threads, decoder=job.decoder)
    else:
        height, width = plan_frame_size(info.height, info.width, job.frame_pixels)
        encode_segments(
            recording.video, info, files, fps=job.rules.fps, size=(height, width), encoding=RESIZED,
            num_threads=job.num_threads, decoder=job.decoder,
        )  # fmt: skip
    return [SegmentPlace(file.path.as_posix(), height, width) for file in files]


def _cut_scaled(job: CutJob, recording: Recording, info: VideoInfo, segments: Sequence[Segment]) -> list[SegmentPlace]:
    if not segments:
        return []
    height, width = plan_frame_size(info.height, info.width, job.frame_pixels)
    plan = plan_scaled(segments, find_frame_times(recording, info))
    path = waiting_path(job.output_dir, job.ref.recording_id)
    encode_scaled(
        recording.video, info, plan, path, fps=job.rules.fps, size=(height, width), num_threads=job.num_threads,
        decoder=job.decoder,
    )  # fmt: skip
    return [
        SegmentPlace(
            path=path.as_posix(),  # until its chunk is finished, and knows the archive
            height=height,
            width=width,
            member=member_name(job.ref.recording_id),
            start_s=plan.start_s(segment),
            stop_s=plan.start_s(segment) + job.rules.duration_s,
            frame_indices=plan.find(segment).tolist(),
        )
        for segment in segments
    ]


def find_container_times(recording: Recording, info: VideoInfo) -> np.ndarray:
    """(F,) int64 us as a reader of the file alone sees them; for pictures and bare streams, since the first frame."""
    if info.frame_times_us is not None:
        return info.frame_times_us
    assert recording.frame_times_us is not None
    return recording.frame_times_us - recording.frame_times_us[0]


def _point_into(
    recording: Recording, info: VideoInfo, segments: Sequence[Segment], rules: SegmentRules
) -> list[SegmentPlace]:
    path, times_us = Path(recording.video.path).as_posix(), find_container_times(recording, info)
    starts_s = [float(times_us[segment.frame_indices[0]] / US_PER_S) for segment in segments]
    return [
        SegmentPlace(
            path=path,
            height=info.height,
            width=info.width,
            member=recording.video.member or None,
            start_s=start_s,
            stop_s=start_s + rules.duration_s,
            frame_indices=segment.frame_indices.tolist(),
        )
        for segment, start_s in zip(segments, starts_s, strict=True)
    ]
