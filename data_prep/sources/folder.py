"""Any video files under a folder, or one video file: pixels without labels.

There is no ego motion: its segments can be predicted, never scored. The container's own times tell the time, and the
first frame is the clock zero.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from data_prep.sources.names import check_usable, make_ids
from driving.errors import SourceError
from driving.recording import Recording, RecordingRef, VideoAddress

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".3gp"})


class VideoFolder:
    """Video files of any kind, each a recording and a group of its own."""

    name = "folder"
    layout = f"video files ({', '.join(sorted(VIDEO_SUFFIXES))}) at any depth"

    def recognises(self, root: Path) -> bool:
        return any(True for _ in find_videos(root))

    def plan(self, root: Path, camera: str = "") -> list[RecordingRef]:
        """Every video, by its path under `root`.

        Raises:
            SourceError: There is none, or a camera was asked for: plain files have no cameras.
        """
        if camera:
            raise SourceError(f"camera {camera!r} was asked for, but plain video files have no cameras; leave it out")
        videos = sorted(find_videos(root))
        if not videos:
            raise SourceError(f"{root} holds no video; looked for {self.layout}")
        labels = [path.name if path == root else path.relative_to(root).as_posix() for path in videos]
        stems = [label[: label.rindex(".")] for label in labels]
        # a.mp4 beside a.mov: the ending is part of the name where the rest of it is not enough
        names = [label if stems.count(stem) > 1 else stem for label, stem in zip(labels, stems, strict=True)]
        refs = [
            RecordingRef(recording_id, self.name, group=recording_id, place={"video": [str(path), ""]})
            for recording_id, path in zip(make_ids(names), videos, strict=True)
        ]
        return sorted(refs, key=lambda ref: ref.recording_id)

    def read(self, ref: RecordingRef) -> Recording:
        check_usable(ref)
        return Recording(ref, VideoAddress(*ref.place["video"]), None, None, None)


def find_videos(root: Path) -> Iterator[Path]:
    """Video files at any depth, links followed, hidden files and folders left out (a Mac leaves ._a.mp4 beside)."""
    if root.is_file():
        if root.suffix.lower() in VIDEO_SUFFIXES:
            yield root
        return
    yield from (path for path in walk_files(root) if path.suffix.lower() in VIDEO_SUFFIXES)


def walk_files(root: Path) -> Iterator[Path]:
    """Files at any depth, links followed but for those that lead back up; hidden files and folders left out."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = [] if real in seen else sorted(name for name in subfolders if not name.startswith("."))
        if real in seen:
            continue  # a link that leads back up
        seen.add(real)
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))
