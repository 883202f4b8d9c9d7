"""The videos of an export: named as the dataset names them, by their full path, or copied beside the export."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from driving.errors import VideoError
from driving.ledger import write_atomically

KEEP, ABSOLUTE, COPY = "keep", "absolute", "copy"
MEDIA = (KEEP, ABSOLUTE, COPY)
FOLDER = "videos"


@dataclass(frozen=True)
class Media:
    """Finds videos, and says how an export names them.

    Attributes:
        dataset_dir: relative paths are tried here first, then in the working directory, as training tries them.
        output_dir: where copies go.
        mode: keep, absolute or copy.
    """

    dataset_dir: Path
    output_dir: Path
    mode: str

    def find(self, video: str) -> Path:
        """The file of a video.

        Raises:
            VideoError: It is not there.
        """
        for path in (self.dataset_dir / video, Path(video)):
            if path.is_file():
                return path
        raise VideoError(
            f"{video} is neither in {self.dataset_dir} nor in {Path.cwd()}; run from the folder in which the segments "
            "were cut"
        )

    def place(self, video: str, split: str, sample_id: str) -> str:
        """The path that the export's row holds; a copy is made where copies are asked for."""
        if self.mode == KEEP:
            return video
        source = self.find(video)
        if self.mode == ABSOLUTE:
            return source.resolve().as_posix()
        from data_prep.sources.names import make_id  # its package opens videos, and help must answer at once

        name = f"{FOLDER}/{split}/{make_id(sample_id)}{source.suffix}"
        target = self.output_dir / name
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            with source.open("rb") as data, write_atomically(target) as copy:
                shutil.copyfileobj(data, copy, 1 << 20)
        return name
