"""The videos of an export: named as the dataset names them, by their full path, or copied beside the export."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from data_prep.export.cut_out import cut_out
from data_prep.export.rows import Record, is_within, read_video
from driving.errors import VideoError
from driving.whole_files import write_atomically

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
        fps: frames a second of a clip that is cut out of a scaled recording.
    """

    dataset_dir: Path
    output_dir: Path
    mode: str
    fps: float

    def find(self, record: Record, scratch: Path) -> Path:
        """The file of a record's video; a part of a scaled recording is cut out into the folder `scratch`.

        Raises:
            VideoError: It is not there.
        """
        video = self._find(read_video(record))
        if not is_within(record):
            return video
        target = self._name(record, scratch, ".mp4")
        if not target.is_file():
            cut_out(record, video, self.fps, target)
        return target

    def place(self, record: Record, split: str) -> str:
        """The path that the export's row holds; a copy is made where copies are asked for."""
        video = read_video(record)
        if self.mode == KEEP:
            return video
        source = self._find(video)
        if self.mode == ABSOLUTE:
            return source.resolve().as_posix()
        folder = self.output_dir / FOLDER / split
        if is_within(record):
            return self.find(record, folder).relative_to(self.output_dir).as_posix()
        target = self._name(record, folder, source.suffix)
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            with source.open("rb") as data, write_atomically(target) as copy:
                shutil.copyfileobj(data, copy, 1 << 20)
        return target.relative_to(self.output_dir).as_posix()

    def _find(self, video: str) -> Path:
        for path in (self.dataset_dir / video, Path(video)):
            if path.is_file():
                return path
        raise VideoError(
            f"{video} is neither in {self.dataset_dir} nor in {Path.cwd()}; run from the folder in which the segments "
            "were cut"
        )

    def _name(self, record: Record, folder: Path, suffix: str) -> Path:
        from data_prep.sources.names import make_id  # its package opens videos, and help must answer at once

        return folder / f"{make_id(record['id'])}{suffix}"
