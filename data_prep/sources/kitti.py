"""KITTI odometry: a folder of pictures, their times, and a pose for each.

    <sequence>/image_0/000000.png ...  <sequence>/times.txt  <sequence>/poses.txt       one folder, as shared in courses
    sequences/06/image_0/...  sequences/06/times.txt         poses/06.txt               the official download

Row i of times.txt [s] and of the poses belongs to picture number i. A pose is 3x4, camera to world, with x right,
y down, z forward. The rate is 9.6 Hz, not 10: only times.txt tells the time. No velocity is recorded: speed is the
derivative of the position, which is the left camera's, about 1 m in front of the GPS unit.
calib.txt holds a 3x4 projection a camera (P0: ..., or the numbers alone); the cameras are level, 1.65 m above the road.
Poses exist for sequences 00-10; 11-21 can be predicted, never scored.

Source: KITTI odometry devkit, readme.txt; the cameras' height: Geiger et al., IJRR 2013, figure 3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.sources.names import check_camera, check_usable, make_ids
from driving.camera import CameraModel, build_pinhole
from driving.clock import US_PER_S
from driving.ego_motion import EgoMotion
from driving.errors import MotionError, SourceError
from driving.recording import Recording, RecordingRef, VideoAddress
from driving.rotation import quaternions_from_matrices
from video_io.pictures import list_pictures, probe_picture

CAMERAS = ("image_l", "image_0", "image_2")  # in order of preference; the poses are those of image_0
SEQUENCES_WITHOUT_POSES = frozenset(f"{number:02d}" for number in range(11, 22))
CAMERA_ROWS = {"image_l": 0, "image_0": 0, "image_1": 1, "image_2": 2, "image_3": 3}  # of calib.txt
CAMERA_HEIGHT_M = 1.65
BODY_FROM_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


class Kitti:
    """KITTI odometry sequences; each is one recording and one group."""

    name = "kitti"
    layout = f"{'|'.join(CAMERAS)}/ with times.txt and poses.txt, or sequences/NN/ with poses/NN.txt"

    def recognises(self, root: Path) -> bool:
        return bool(_find_sequences(root))

    def plan(self, root: Path, camera: str = "") -> list[RecordingRef]:
        """Every sequence under `root`; what it lacks is its fault.

        Raises:
            SourceError: There is none, or none has the camera.
        """
        sequences = _find_sequences(root)
        if not sequences:
            raise SourceError(f"{root} holds no KITTI odometry sequence; looked for {self.layout}")
        there = {path.name for sequence in sequences for path in sequence.glob("image_*") if path.is_dir()}
        camera = camera or next((name for name in CAMERAS if name in there), CAMERAS[1])
        check_camera(camera, sorted(there), root)
        ids = make_ids([sequence.resolve().name for sequence in sequences])
        refs = [_plan_sequence(name, folder, camera) for name, folder in zip(ids, sequences, strict=True)]
        return sorted(refs, key=lambda ref: ref.recording_id)

    def read(self, ref: RecordingRef) -> Recording:
        """Open one sequence: list its pictures, read their times and poses.

        Raises:
            SourceError: The files disagree on how many pictures there are, or the times do not increase.
            MotionError: The poses are damaged.
        """
        check_usable(ref)
        folder, pictures = Path(ref.place["folder"]), Path(ref.place["pictures"])
        times_us = read_times(folder / "times.txt")
        names, numbers = _list_pictures(pictures)
        if numbers[-1] >= len(times_us):
            raise SourceError(f"{folder / 'times.txt'} holds {len(times_us)} times, {pictures} holds {names[-1]}")
        motion = None
        if ref.place["poses"]:
            motion = read_poses(Path(ref.place["poses"]), times_us)
        return Recording(
            ref=ref,
            video=VideoAddress(str(pictures), frames=names),
            frame_times_us=times_us[numbers],
            clock_zero_us=int(times_us[numbers[0]]),
            ego_motion=motion,
            camera=read_camera(folder / "calib.txt", pictures / names[0]),
        )


def _find_sequences(root: Path) -> list[Path]:
    """Sequence folders: `root` itself, its children, or those of its `sequences` folder."""
    candidates = [root, *sorted(root.glob("*")), *sorted(root.glob("sequences/*")), *sorted(root.glob("*/sequences/*"))]
    return [folder for folder in candidates if (folder / "times.txt").is_file() and any(folder.glob("image_*/"))]


def _plan_sequence(recording_id: str, folder: Path, camera: str) -> RecordingRef:
    poses = _find_poses(folder)
    fault = ""
    if not (folder / camera).is_dir():
        fault = f"{folder / camera} is missing; download the sequence's {camera}"
    elif poses is None and folder.name not in SEQUENCES_WITHOUT_POSES:
        fault = f"{folder} has no poses.txt (or ../../poses/{folder.name}.txt); download the poses"
    place = {"folder": str(folder), "pictures": str(folder / camera), "poses": str(poses or "")}
    return RecordingRef(recording_id, "kitti", group=recording_id, place=place, fault=fault)


def _find_poses(folder: Path) -> Path | None:
    candidates = [folder / "poses.txt", folder.parent.parent / "poses" / f"{folder.name}.txt"]
    return next((path for path in candidates if path.is_file()), None)


def _list_pictures(folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Picture names and their numbers, in order of the numbers."""
    names = list_pictures(folder)
    strange = [name for name in names if not Path(name).stem.isdecimal()]
    if strange or not names:
        raise SourceError(f"{folder} holds no pictures named by their number (000000.png): {strange[:1] or 'nothing'}")
    numbers = np.array([int(Path(name).stem) for name in names])
    if len(set(numbers)) != len(numbers):
        raise SourceError(f"{folder} holds two pictures of one number; keep one kind of file")
    return names, numbers


def read_times(path: Path) -> np.ndarray:
    """(N,) int64 us from times.txt, which holds seconds.

    Raises:
        SourceError: Not one number a line, or times that do not increase.
    """
    times_us = np.round(_read_numbers(path, 1, SourceError)[:, 0] * US_PER_S)
    if not np.isfinite(times_us).all() or np.any(np.diff(times_us) <= 0):
        row = int(np.argmax(~(np.diff(times_us) > 0))) + 1
        raise SourceError(f"{path}: times do not increase at line {row + 1}")
    return times_us.astype(np.int64)


def read_poses(path: Path, times_us: np.ndarray) -> EgoMotion:
    """Poses of the left camera as ego motion: body x forward, y left, z up, in the world of the first camera.

    Raises:
        MotionError: Not twelve numbers a line, not as many lines as times, or matrices that are no rotations.
    """
    poses = _read_numbers(path, 12, MotionError).reshape(-1, 3, 4)
    if len(poses) != len(times_us):
        raise MotionError(f"{path} holds {len(poses)} poses, times.txt holds {len(times_us)} times")
    matrices = poses[:, :, :3]
    drift = np.abs(np.einsum("nji,njk->nik", matrices, matrices) - np.eye(3)).max(axis=(1, 2))
    if np.any(drift > 0.01):  # a NaN row compares False and is found by the windows that need it
        raise MotionError(f"{path}: the pose at line {int(np.argmax(drift > 0.01)) + 1} is no rotation")
    return EgoMotion(
        timestamps_us=times_us,
        position_m=poses[:, :, 3] @ BODY_FROM_CAMERA.T,
        quaternion_xyzw=quaternions_from_matrices(BODY_FROM_CAMERA @ matrices @ BODY_FROM_CAMERA.T),
    )


def read_camera(path: Path, picture: Path) -> CameraModel | None:
    """The camera that took a picture, in the frame on the road below the left camera; None without calib.txt.

    Raises:
        SourceError: calib.txt does not hold this camera's twelve numbers.
    """
    row = CAMERA_ROWS.get(picture.parent.name)
    if row is None or not path.is_file():
        return None
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        projection = np.array(lines[row].rpartition(":")[2].split(), dtype=np.float64).reshape(3, 4)
    except (OSError, IndexError, ValueError) as error:
        advice = "download it again, or delete it: labels do not need it"
        raise SourceError(f"{path} does not hold the projection of camera {row} ({error}); {advice}") from error
    focal = (projection[0, 0], projection[1, 1])
    center = (projection[0, 2] + 0.5, projection[1, 2] + 0.5)  # KITTI counts from the first pixel's centre
    return build_pinhole(probe_picture(picture), focal, center, (0.0, projection[0, 3] / focal[0], CAMERA_HEIGHT_M))


def _read_numbers(path: Path, num_columns: int, error_type: type) -> np.ndarray:
    """(N, num_columns) float64 from a text file of numbers."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        widths = {len(row) for row in rows}
        if widths != {num_columns}:
            raise error_type(f"{path} holds lines of {sorted(widths)} numbers, {num_columns} were expected")
        return np.array(rows, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise error_type(f"{path} cannot be read as numbers ({error})") from error
