"""comma2k19: one-minute highway segments with a pose for every video frame.

    Chunk_1/<dongle>|<start time>/<segment>/video.hevc
                                           /global_pose/frame_{times,positions,orientations,velocities}   npy, no ending
                                           /processed_log/CAN/speed/{t,value}

    ECEF pose ──ENU at the first fix──▶ level world ──device to body, mount angles out──▶ EgoMotion

Positions and velocities are ECEF, orientations quaternions (w, x, y, z) device -> ECEF; the device looks along x, with
y right and z down. It sits behind the windscreen tilted against the car (3.8 degrees in the published example), so
"forward" is not its x axis: see `estimate_mount`. Segments of one drive (a route) are one group.
video.hevc is a bare stream without times: frame i was taken at frame_times[i]. A video.mp4 beside it (the same stream
remuxed, `ffmpeg -framerate 20 -i video.hevc -c copy video.mp4`) is read in its place.

Source: github.com/commaai/comma2k19, README.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data_prep.sources.names import check_usable, make_ids
from driving.clock import US_PER_S
from driving.ego_motion import EgoMotion
from driving.errors import MotionError, SourceError
from driving.recording import Recording, RecordingRef, VideoAddress
from driving.rotation import quaternions_from_matrices, rotation_matrices

POSE = "global_pose"
VIDEO_NAMES = ("video.mp4", "video.hevc")
ROUTE = re.compile(r"[0-9a-f]{16}[|_]\d{4}-\d\d-\d\d--\d\d-\d\d-\d\d")
BODY_FROM_DEVICE = np.diag([1.0, -1.0, -1.0])
FIRST_ECCENTRICITY_SQUARED = 6.69437999014e-3  # of the WGS 84 ellipsoid
MOUNT_MIN_SPEED_MPS = 3.0
MOUNT_MAX_YAW_RATE_RADPS = 0.03
MOUNT_MIN_SAMPLES = 20


class Comma2k19:
    """comma2k19 segments: each is a recording, its route is the group."""

    name = "comma2k19"
    layout = f"folders with {POSE}/frame_times beside {VIDEO_NAMES[1]}, at most three levels down"

    def recognises(self, root: Path) -> bool:
        return bool(_find_segments(root))

    def plan(self, root: Path, camera: str = "") -> list[RecordingRef]:
        """Every segment under `root`; one without video has a fault, its motion can still be read by `read_motion`.

        Raises:
            SourceError: There is none, or a camera was asked for: there is only one.
        """
        if camera:
            raise SourceError(f"camera {camera!r} was asked for, but comma2k19 has one camera only; leave it out")
        segments = _find_segments(root)
        if not segments:
            raise SourceError(f"{root} holds no comma2k19 segment; looked for {self.layout}")
        names = [_name_segment(folder) for folder in segments]
        ids = make_ids([" ".join(filter(None, name)) for name in names])
        refs = [
            RecordingRef(
                recording_id=recording_id,
                source=self.name,
                group=route or recording_id,
                place={"folder": str(folder), "video": _find_video(folder)},
                fault="" if _find_video(folder) else f"no {VIDEO_NAMES[1]} in {folder}; download the segment",
            )
            for recording_id, folder, (route, _) in zip(ids, segments, names, strict=True)
        ]
        return sorted(refs, key=lambda ref: ref.recording_id)

    def read(self, ref: RecordingRef) -> Recording:
        """Open one segment: frame times and ego motion.

        Raises:
            SourceError: The listing found a fault.
            MotionError: The pose is damaged.
        """
        check_usable(ref)
        folder = Path(ref.place["folder"])
        motion = read_motion(folder)
        times_us = motion.timestamps_us
        return Recording(ref, VideoAddress(ref.place["video"]), times_us, int(times_us[0]), motion)


def _find_segments(root: Path) -> list[Path]:
    """Segment folders: `root`, or one, two or three levels below it (segment, route, chunk)."""
    levels = ["", "*/", "*/*/", "*/*/*/"]
    return sorted(path.parent.parent for level in levels for path in root.glob(f"{level}{POSE}/frame_times"))


def _find_video(folder: Path) -> str:
    """The path of a segment's video, "" where there is none."""
    return next((str(folder / name) for name in VIDEO_NAMES if (folder / name).is_file()), "")


def _name_segment(folder: Path) -> tuple[str, str]:
    """(route, segment) of a segment's folder; the route is "" where the parent folder is not named like one."""
    folder = folder.resolve()
    route = folder.parent.name
    return (route.replace("|", "_"), folder.name) if ROUTE.fullmatch(route) else ("", folder.name)


def read_motion(folder: Path) -> EgoMotion:
    """One segment's motion in a level east-north-up frame at its first fix; needs no video.

    Raises:
        MotionError: An array is missing, has another shape, or its times do not increase.
    """
    times = _read_array(folder, "frame_times", ())
    position = _read_array(folder, "frame_positions", (3,))
    orientation = _read_array(folder, "frame_orientations", (4,))
    velocity = _read_array(folder, "frame_velocities", (3,))
    for name, array in [("positions", position), ("orientations", orientation), ("velocities", velocity)]:
        if len(array) != len(times):
            raise MotionError(f"{folder}: frame_{name} holds {len(array)} rows, frame_times holds {len(times)}")
    if not np.isfinite(times).all():
        raise MotionError(f"{folder / POSE / 'frame_times'} holds a time that is not finite")
    first = position[np.isfinite(position).all(axis=1)][:1]
    if not len(first):
        raise MotionError(f"{folder / POSE / 'frame_positions'} holds no finite position")
    norms = np.linalg.norm(orientation, axis=1)
    if np.any(np.abs(norms - 1) > 0.01):  # a NaN row compares False and is found by the windows that need it
        row = int(np.argmax(np.abs(norms - 1) > 0.01))
        raise MotionError(
            f"{folder / POSE / 'frame_orientations'} row {row} has norm {norms[row]:.3f}, a rotation has 1"
        )
    enu_from_ecef = plan_enu(first[0])
    device = enu_from_ecef @ rotation_matrices(orientation[:, [1, 2, 3, 0]])
    body = device @ BODY_FROM_DEVICE.T
    velocity_enu = velocity @ enu_from_ecef.T
    times_us = np.round(times * US_PER_S).astype(np.int64)
    body = body @ estimate_mount(times_us, body, velocity_enu)
    return EgoMotion(
        timestamps_us=times_us,
        position_m=(position - first[0]) @ enu_from_ecef.T,
        quaternion_xyzw=quaternions_from_matrices(body),
        velocity_mps=velocity_enu,
    )


def plan_enu(position_ecef_m: np.ndarray) -> np.ndarray:
    """(3, 3) rotation from ECEF to east, north, up at a place on the Earth.

    Up is the ellipsoid's normal; taken at the place itself, it is off by less than 4e-6 rad at 1 km of height.
    """
    x, y, z = position_ecef_m
    up = np.array([x, y, z / (1 - FIRST_ECCENTRICITY_SQUARED)])
    up /= np.linalg.norm(up)
    east = np.array([-y, x, 0.0]) / np.hypot(x, y)
    return np.stack([east, np.cross(up, east), up])


def estimate_mount(times_us: np.ndarray, body: np.ndarray, velocity_mps: np.ndarray) -> np.ndarray:
    """(3, 3) rotation from the car to the device (in body axes): where the velocity points while driving straight.

    The median yaw and pitch of the velocity seen from the device, over samples faster than 3 m/s that turn less than
    0.03 rad/s. A device that is tilted by 3.8 degrees would otherwise report a forward speed that is 0.2 % low.
    Where a segment has fewer than 20 such samples the device is taken to look straight ahead.
    """
    seen = np.einsum("nji,nj->ni", body, velocity_mps)
    heading = np.unwrap(np.nan_to_num(np.arctan2(body[:, 1, 0], body[:, 0, 0])))
    yaw_rate = np.gradient(heading, times_us / US_PER_S) if len(heading) > 1 else np.zeros(len(heading))
    with np.errstate(invalid="ignore"):
        is_straight = (np.abs(seen[:, 0]) > MOUNT_MIN_SPEED_MPS) & (np.abs(yaw_rate) < MOUNT_MAX_YAW_RATE_RADPS)
    seen = seen[is_straight & np.isfinite(seen).all(axis=1)]
    if len(seen) < MOUNT_MIN_SAMPLES:
        return np.eye(3)
    ahead = seen * np.sign(seen[:, :1])  # reversing moves along the same line
    yaw = np.median(np.arctan2(ahead[:, 1], ahead[:, 0]))
    pitch = np.median(np.arctan2(ahead[:, 2], np.hypot(ahead[:, 0], ahead[:, 1])))
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    left = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    return np.stack([forward, left, np.cross(forward, left)], axis=1)


def _read_array(folder: Path, name: str, row_shape: tuple[int, ...]) -> np.ndarray:
    """(N, *row_shape) float64 from an npy file without ending."""
    path = folder / POSE / name
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MotionError(f"{path} cannot be read as an npy array ({error}); download the segment again") from error
    if array.shape[1:] != row_shape or not np.issubdtype(array.dtype, np.number):
        raise MotionError(f"{path} has shape {array.shape} of {array.dtype}, (N{''.join(f', {n}' for n in row_shape)})")
    return array.astype(np.float64)
