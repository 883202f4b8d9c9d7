"""BDD100K: 40 s videos of a phone behind the windscreen, and its GPS and gyro beside them.

    videos/[100k/]{train,val,test}/<ride>-<clip>.mov       8 hexadecimal digits each
    info/100k/{train,val}/<ride>-<clip>.json               what the phone measured; none for test, and missing for some

The packages may lie side by side, in parts (bdd100k_videos_train_00/...), or in any folder above or below `root`. The
split is the folder's name, the group the ride: clips of one ride lie in train and in val. GPS once a second gives facts
("brakes", "turns_left"), never (velocity, curvature): no segment of this source has labels. Video times are the
container's own (a phone's frame rate varies).

Source: BDD100K documentation, download page; for the info files see bdd100k_info.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_prep.sources.bdd100k_info import build_motion, read_info
from data_prep.sources.folder import find_videos, walk_files
from data_prep.sources.names import check_usable, make_id, mark_repeated
from driving.coarse_motion import no_motion
from driving.errors import SourceError
from driving.recording import Recording, RecordingRef, VideoAddress

NAME = re.compile(r"([0-9a-f]{8})-[0-9a-f]{8}")
SPLITS = ("train", "val", "test")
INFO = "info"
LEVELS_ABOVE = 3  # videos/100k/train lies beside the info three levels up


class Bdd100k:
    """BDD100K videos; each is a recording, its ride is the group."""

    name = "bdd100k"
    layout = "videos named <8 hex digits>-<8 hex digits>.mov, with info/100k/{train,val}/<name>.json"

    def recognises(self, root: Path) -> bool:
        return any(NAME.fullmatch(path.stem) for path in find_videos(root))

    def plan(self, root: Path, camera: str = "") -> list[RecordingRef]:
        """Every video under `root`; one without an info file is listed too, its motion is not known.

        Raises:
            SourceError: There is none, or a camera was asked for: there is only one.
        """
        if camera:
            raise SourceError(f"camera {camera!r} was asked for, but BDD100K has one camera only; leave it out")
        videos = sorted(find_videos(root))
        if not videos:
            raise SourceError(f"{root} holds no BDD100K video; looked for {self.layout}")
        infos = _index_infos(root)
        return mark_repeated([self._plan_video(root, path, infos) for path in videos], [str(path) for path in videos])

    def _plan_video(self, root: Path, video: Path, infos: dict[tuple[str, str], Path]) -> RecordingRef:
        top = root.absolute().parent if video == root else root.absolute()
        split = _find_split(f"{top.name}/{video.absolute().parent.relative_to(top).as_posix()}")
        info = next((infos[key] for key in ((video.stem, split), (video.stem, "")) if key in infos), None)
        if not split and info is not None:
            split = _find_info_split(info)
        recording_id = make_id(video.stem)
        ride = NAME.fullmatch(video.stem)
        group = ride[1] if ride else recording_id if info is None else _read_ride(info) or recording_id
        place = {"video": str(video), "info": "" if info is None else str(info)}
        return RecordingRef(recording_id, self.name, group, split, place)

    def read(self, ref: RecordingRef) -> Recording:
        """Open one video's log. What is wrong with the log costs its facts, never the video.

        Raises:
            SourceError: The listing found a fault.
        """
        check_usable(ref)
        video = VideoAddress(ref.place["video"])
        if not ref.place["info"]:
            motion = no_motion(f"there is no {INFO}/.../{Path(video.path).stem}.json")
            return Recording(ref, video, None, None, None, coarse_motion=motion)
        try:
            log = read_info(Path(ref.place["info"]))
        except SourceError as error:
            return Recording(ref, video, None, None, None, coarse_motion=no_motion(str(error)))
        if log.ride_id:
            ref = replace(ref, metadata={**ref.metadata, "ride_id": log.ride_id})
        return Recording(ref, video, None, None, None, coarse_motion=build_motion(log))


def _index_infos(root: Path) -> dict[tuple[str, str], Path]:
    """(name, split) -> info file, and (name, "") -> the first one of that name."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(set(_find_infos(root))):
        for split in {_find_info_split(path), ""}:
            found.setdefault((path.stem, split), path)
    return found


def _find_infos(root: Path) -> Iterator[Path]:
    """JSON files of every folder called info under `root`, or beside it or one of the folders above it."""
    folder = root if root.is_dir() else root.parent
    for path in walk_files(folder):
        if path.suffix == ".json" and INFO in path.relative_to(folder).parts:
            yield path
    for level in range(1, LEVELS_ABOVE + 1):
        beside = folder.joinpath(*[".."] * level, INFO)
        if not folder.resolve().is_relative_to(beside.resolve()):  # it may hold the videos: then it is no package
            yield from (path for path in walk_files(beside) if path.suffix == ".json")


def _find_info_split(info: Path) -> str:
    return _find_split(info.parent.as_posix().rpartition(f"{INFO}/")[2])


def _find_split(folder: str) -> str:
    """The split that the innermost folder called like one stands for; "" where none is."""
    return next((part for part in reversed(folder.split("/")) if part in SPLITS), "")


def _read_ride(info: Path) -> str:
    """The ride of a video whose name does not tell it; "" where the log does not either."""
    try:
        ride_id = read_info(info).ride_id
    except SourceError:
        return ""
    return make_id(ride_id) if ride_id else ""
