"""Videos with the evidence taken away, to learn what a model's answers rest on.

    frozen      the first frame again and again: no motion to see
    wrong_clip  another clip's frames under this row's prompt: someone else's motion
    mirror      left and right swapped: the predicted curvature must change sign
    blank       plain grey
    shuffled    the same frames in another order

A clip is (frames uint8 (T, H, W, 3), fps); the prompt stays as it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from driving.errors import DrivingError

CONTROLS = ("frozen", "wrong_clip", "mirror", "blank", "shuffled")
DEFAULT_CONTROLS = ("frozen", "wrong_clip", "mirror")
_GREY = 128


def parse_controls(text: str) -> tuple[str, ...]:
    """`frozen,mirror`, `all` or `none` -> names in the order of CONTROLS.

    Raises:
        DrivingError: A name is unknown.
    """
    if text == "none" or not text:
        return ()
    if text == "all":
        return CONTROLS
    asked = [name.strip().replace("-", "_") for name in text.split(",")]
    unknown = [name for name in asked if name not in CONTROLS]
    if unknown:
        raise DrivingError(f"control {unknown[0]!r} is not one of {', '.join(CONTROLS)}, all or none")
    return tuple(name for name in CONTROLS if name in asked)


def alter_frames(control: str, frames: np.ndarray, row_id: str, seed: int) -> np.ndarray:
    """(T, H, W, 3) uint8 -> the same shape with the evidence removed.

    `wrong_clip` alters nothing here: it is the other row's frames, see `plan_donors`.
    """
    if control == "frozen":
        return np.repeat(frames[:1], len(frames), axis=0)
    if control == "mirror":
        return np.ascontiguousarray(frames[:, :, ::-1])
    if control == "blank":
        return np.full_like(frames, _GREY)
    if control == "shuffled":
        return frames[_row_rng(row_id, seed).permutation(len(frames))]
    raise DrivingError(f"control {control!r} does not alter frames")


def plan_donors(ids: Sequence[str], groups: Sequence[str], seed: int) -> dict[str, str]:
    """For each row, a row of another group whose frames it is shown; empty where all rows are of one group.

    A row's donor depends on the seed and on which rows take part, not on their order.
    """
    order = sorted(range(len(ids)), key=lambda row: (groups[row], ids[row]))
    sorted_groups = [groups[row] for row in order]
    first_of: dict[str, int] = {}
    for position, group in enumerate(sorted_groups):
        first_of.setdefault(group, position)
    size_of = Counter(sorted_groups)
    if len(size_of) < 2:
        return {}
    donors = {}
    for row in order:
        first, size = first_of[groups[row]], size_of[groups[row]]
        pick = int(_row_rng(ids[row], seed).integers(len(order) - size))
        donors[ids[row]] = ids[order[pick if pick < first else pick + size]]
    return donors


def _row_rng(row_id: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{row_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
