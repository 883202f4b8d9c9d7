"""How a stored picture has to be turned before it is shown: quarter turns are applied, anything else is refused."""

from __future__ import annotations

import math
import struct

import av
from av.sidedata.sidedata import SideDataContainer

from driving.errors import VideoError
from driving.recording import VideoAddress

_MATRIX = struct.Struct("=9i")  # a, b, u, c, d, v, x, y, w in the machine's own byte order


def plan_rotation(address: VideoAddress, a: int, b: int, c: int, d: int) -> int:
    """Degrees anticlockwise, 0, 90, 180 or 270, of a display matrix with the rows (a, b), (c, d).

    Raises:
        VideoError: The matrix asks for a mirror image, or for an angle between quarter turns.
    """
    if a * d - b * c < 0:
        raise VideoError(f"{address} asks to be shown mirrored, which is not applied; convert it first")
    degrees = -math.degrees(math.atan2(b, a)) % 360
    if abs(degrees / 90 - round(degrees / 90)) > 0.01:
        raise VideoError(f"{address} asks to be shown turned by {degrees:.0f} degrees; only quarter turns are applied")
    return round(degrees) % 360


def turn_size(size: tuple[int, int], rotation: int) -> tuple[int, int]:
    """(height, width) after the picture was turned by `rotation` degrees; the same the other way round."""
    return size if rotation % 180 == 0 else size[::-1]


def read_frame_rotation(address: VideoAddress, frame: av.VideoFrame) -> int:
    """What `plan_rotation` says of the matrix that came with a decoded frame; 0 where none did."""
    # frame.side_data would tie frame and container to each other: pictures then stay until Python looks for rings.
    matrix = SideDataContainer(frame).get("DISPLAYMATRIX")
    if matrix is None:
        return 0
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(matrix)[: _MATRIX.size])
    return plan_rotation(address, a, b, c, d)
