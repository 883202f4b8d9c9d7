"""Writes synthetic datasets: plan every clip, draw them in parallel, pack chunks, index last.

plans ──▶ clip files (one process a clip) ──▶ chunk archives ──▶ calibration, index ──▶ manifest
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from data_prep.synthetic.camera import Camera
from data_prep.synthetic.clip import ClipPlan, camera_files, draw_split, ego_file, make_clip_id
from data_prep.synthetic.layout import (
    LAYOUTS,
    PRESENCE_FILES,
    clip_paths,
    is_packed,
    remove_waiting,
    write_calibration,
    write_chunk,
    write_index,
)
from data_prep.synthetic.motion import Motion
from driving.errors import DrivingError
from driving.executors import run_jobs
from driving.ledger import claim_output, list_entries
from driving.whole_files import write_atomically

FORMAT_VERSION = 2  # raise when the bytes of the same plan change


@dataclass(frozen=True)
class DatasetSummary:
    """What was written: the folder, the clips in order, and whether all of it was there already."""

    root: Path
    clip_ids: tuple[str, ...]
    was_complete: bool


@dataclass(frozen=True)
class _Job:
    """What one worker needs to write one clip."""

    root: Path
    layout: str
    plan: ClipPlan
    seed: int
    seconds: float
    camera: Camera


def write_dataset(
    root: Path,
    clips: Sequence[Motion | ClipPlan],
    *,
    layout: str = "hub",
    seconds: float = 20,
    height: int = 256,
    width: int = 448,
    seed: int = 7,
    workers: int = 1,
    clips_per_chunk: int = 100,
    presence: str = "feature_presence",
    overwrite_output: bool = False,
    show_progress: bool = False,
) -> DatasetSummary:
    """Write recordings with the given motions, in order, as a PhysicalAI-AV dataset.

    The same arguments give the same bytes with any number of workers; an interrupted run is continued.

    Raises:
        DrivingError: A picture size that cannot be encoded, two clips with one id, or no clip at all.
        LedgerError: The folder holds something else.
    """
    _check_arguments(clips, layout, presence, seconds, height, width)
    plans = [_complete_plan(clip, index, seed, clips_per_chunk) for index, clip in enumerate(clips)]
    _check_ids(plans)
    summary = DatasetSummary(Path(root), tuple(plan.clip_id for plan in plans), False)
    decided = {"tool": "synthetic recordings", "format": FORMAT_VERSION, "layout": layout, "clips": len(plans)}
    decided |= {"seconds": seconds, "height": height, "width": width, "seed": seed, "presence": presence}
    decided["plans"] = hashlib.sha256("".join(plan.digest() for plan in plans).encode()).hexdigest()
    with claim_output(Path(root), decided, overwrite=overwrite_output) as output:
        if output.is_complete:
            return dataclasses.replace(summary, was_complete=True)
        camera = Camera(height, width)
        jobs = [_Job(Path(root), layout, plan, seed, seconds, camera) for plan in plans]
        _write_clips([job for job in jobs if not _is_written(job)], workers, len(jobs), show_progress)
        for chunk in sorted({plan.chunk for plan in plans}):
            members = [plan for plan in plans if plan.chunk == chunk]
            if layout == "hub":
                write_chunk(Path(root), chunk, members)
            write_calibration(Path(root), layout, chunk, members, camera)
        if layout == "hub":
            write_index(Path(root), plans, seed, presence)
            remove_waiting(Path(root))
        output.finish({"clips": len(plans)}, list_entries(Path(root)))
    return summary


def _check_arguments(clips: Sequence, layout: str, presence: str, seconds: float, height: int, width: int) -> None:
    if not clips:
        raise DrivingError("0 recordings were asked for; ask for at least 1")
    if layout not in LAYOUTS:
        raise DrivingError(f"layout {layout!r} is not one of {', '.join(LAYOUTS)}")
    if presence not in PRESENCE_FILES:
        raise DrivingError(f"presence file {presence!r} is not one of {', '.join(PRESENCE_FILES)}")
    if seconds <= 0:
        raise DrivingError(f"a recording of {seconds} s shows nothing; ask for more than 0 s")
    if height < 32 or width < 32 or height % 4 or width % 4:
        raise DrivingError(f"a picture of {height}x{width} px cannot be drawn; use multiples of 4 from 32 up")


def _complete_plan(clip: Motion | ClipPlan, index: int, seed: int, clips_per_chunk: int) -> ClipPlan:
    plan = ClipPlan(clip) if isinstance(clip, Motion) else clip
    number = plan.index if plan.index >= 0 else index
    return dataclasses.replace(
        plan,
        index=number,
        clip_id=plan.clip_id if plan.clip_id else make_clip_id(seed, number),
        split=plan.split if plan.split else draw_split(seed, number),
        chunk=plan.chunk if plan.chunk >= 0 else index // clips_per_chunk,
    )


def _check_ids(plans: Sequence[ClipPlan]) -> None:
    seen: set[str] = set()
    for plan in plans:
        if plan.clip_id in seen:
            raise DrivingError(f"two recordings have the id {plan.clip_id}; give each its own index or clip_id")
        seen.add(plan.clip_id)


def _is_written(job: _Job) -> bool:
    if job.layout == "hub" and is_packed(job.root, job.plan.chunk):
        return True
    return all(path.exists() for path in clip_paths(job.root, job.layout, job.plan).values())


def _write_clips(jobs: Sequence[_Job], workers: int, num_all: int, show_progress: bool) -> None:
    from tqdm import tqdm

    num_done = num_all - len(jobs)
    with (
        tqdm(total=num_all, initial=num_done, unit="clip", disable=not show_progress) as bar,
        closing(run_jobs(_write_clip, jobs, min(workers, len(jobs)))) as finished,
    ):
        for _ in finished:
            bar.update()


def _write_clip(job: _Job) -> None:
    """Write one clip's files; the video last, so that its presence means the clip is whole."""
    paths = clip_paths(job.root, job.layout, job.plan)
    files = {"egomotion": ego_file(job.plan, job.seed, job.seconds)}
    files |= camera_files(job.plan, job.seed, job.seconds, job.camera)
    for name, content in files.items():
        with write_atomically(paths[name]) as handle:
            handle.write(content)
