"""One second of a scaled recording as a file of its own, as `--cut resized` would have written it.

Packets are copied where the second's frames lie behind one another, as they nearly always do: it begins with a key
frame. Otherwise they are encoded once more, with the same settings.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from driving.clock import US_PER_S
from driving.recording import VideoAddress
from driving.whole_files import write_atomically


def cut_out(record: dict[str, Any], archive: Path, fps: float, target: Path) -> None:
    """Write the frames of a row of `--cut scaled` to `target`, frame i shown at i / fps.

    Raises:
        VideoError: The archive does not hold them.
        LedgerError: The disk is full.
    """
    from data_prep.scaled_video import ScaledPlan, encode_scaled
    from video_io import check_copyable, copy_range

    address = VideoAddress(str(archive), record["member"])
    info = _probe(address, archive.stat().st_mtime_ns)
    indices = np.asarray(record["frame_indices"], np.int64)
    start, num_frames = int(indices[0]), len(indices)
    if indices[-1] - start == num_frames - 1 and check_copyable(info, start, num_frames):
        with write_atomically(target) as file:
            copy_range(address, info, start, num_frames, file.name, fps=fps)
        return
    steps = np.arange(num_frames)
    plan = ScaledPlan(indices, np.round(steps * US_PER_S / fps).astype(np.int64), steps == 0, 0)
    encode_scaled(address, info, plan, target, fps=fps, size=(info.height, info.width))


@lru_cache(maxsize=16)  # the seconds of one recording stand behind one another
def _probe(address: VideoAddress, changed_ns: int) -> Any:
    from video_io import probe_video

    return probe_video(address)
