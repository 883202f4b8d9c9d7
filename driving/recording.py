"""What every source yields: one recording, its pixels' address, its clock and its motion.

Source.plan(root) ──▶ RecordingRef ──read──▶ Recording(video, frame_times_us, ego_motion, group, split, ...)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from driving.camera import CameraModel
from driving.coarse_motion import CoarseMotion
from driving.ego_motion import EgoMotion


@dataclass(frozen=True)
class VideoAddress:
    """Where the pixels of one recording are.

    Attributes:
        path: a video file, a zip archive, a tar archive, or a folder of pictures.
        member: the video's name inside the archive; "" where `path` is the video itself.
        frames: file names inside the folder, in recorded order; () for a video.
        byte_range: (first byte, number of bytes) of a member of a tar, which lists its members nowhere.
    """

    path: str
    member: str = ""
    frames: tuple[str, ...] = ()
    byte_range: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else self.path


@dataclass(frozen=True)
class RecordingRef:
    """A recording that a source has found but not opened: cheap to list, cheap to send to a worker.

    Attributes:
        recording_id: unique within the source; a file-name-safe string.
        source: the source's name.
        group: what must not be split between train and test (clip, ride, scene).
        split: "train", "val", "test" where the dataset says so, else "".
        place: what the source needs to open it; plain JSON values.
        metadata: country, hour, platform, ... as the dataset gives them.
        fault: why this recording cannot be used, known from the listing alone; "" where nothing is known against it.
        excluded: why the dataset itself leaves it out (it says "not valid", or "this clip has no such camera");
            listed in the ledger, counted as bad by nobody.
    """

    recording_id: str
    source: str
    group: str
    split: str = ""
    place: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    excluded: str = ""

    @property
    def obstacle(self) -> str:
        """Why it is not opened, whoever says so; "" where it can be."""
        return self.excluded or self.fault


@dataclass(frozen=True)
class Recording:
    """One recording, opened: everything that labels and frames need, and no pixels yet.

    Attributes:
        ref: where it came from.
        video: the address of its pixels.
        frame_times_us: (F,) int64 on the recording's clock, from the sensor's own file;
            None where only the container's PTS tell the time.
        clock_zero_us: the instant segment 0 starts at, on the same clock;
            None for "the first frame" (known only after the container was read).
        ego_motion: the vehicle's motion on the same clock; None where the dataset has none.
        coarse_motion: motion that gives facts but no labels, in time since the first frame; None where there is none.
        camera: which picture shows which part of the road; None where the dataset does not say.
    """

    ref: RecordingRef
    video: VideoAddress
    frame_times_us: np.ndarray | None
    clock_zero_us: int | None
    ego_motion: EgoMotion | None
    camera: CameraModel | None = None
    coarse_motion: CoarseMotion | None = None


class Source(Protocol):
    """One recording format. `plan` lists and never opens a video; `read` opens one recording."""

    name: str

    def recognises(self, root: Path) -> bool:
        """Whether a folder holds this format."""
        ...

    def plan(self, root: Path, camera: str = "") -> list[RecordingRef]:
        """Every recording under `root`, sorted by id. `camera` "" means the source's default."""
        ...

    def read(self, ref: RecordingRef) -> Recording:
        """Open one recording. Raises SourceError or MotionError with the reason."""
        ...
