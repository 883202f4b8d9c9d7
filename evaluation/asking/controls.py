"""Inputs with the evidence taken away, to learn what a model's answers rest on.

    frozen      the first frame again and again: no motion to see
    wrong_clip  another clip's frames under this row's prompt: someone else's motion
    mirror      left and right swapped: the predicted curvature must change sign
    blank       plain grey
    shuffled    the same frames in another order

and where the prompt tells the ego motion of the clip (which a mirror then mirrors too):

    no_history     the question without it
    wrong_history  another clip's

A clip is (frames uint8 (T, H, W, 3), fps); apart from the ego motion the prompt stays as it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driving.answer_format import VIDEO_ONLY, AnswerFormat
from driving.ego_history import mirror_history, remove_history, replace_history
from driving.errors import DrivingError
from driving.mirror import mirror_frames
from qwenvl.data.preprocessing import GREY

VIDEO_CONTROLS = ("frozen", "wrong_clip", "mirror", "blank", "shuffled")
HISTORY_CONTROLS = ("no_history", "wrong_history")
CONTROLS = (*VIDEO_CONTROLS, *HISTORY_CONTROLS)
DEFAULT_CONTROLS = ("frozen", "wrong_clip", "mirror")


def parse_controls(text: str, track: str = VIDEO_ONLY) -> tuple[str, ...]:
    """`frozen,mirror`, `auto`, `all` or `none` -> names in the order of CONTROLS.

    Raises:
        DrivingError: A name is unknown, or takes away what prompts of this track do not hold.
    """
    of_track = () if track == VIDEO_ONLY else HISTORY_CONTROLS
    if text == "none" or not text:
        return ()
    if text == "auto":
        return (*DEFAULT_CONTROLS, *of_track)
    if text == "all":
        return (*VIDEO_CONTROLS, *of_track)
    asked = [name.strip().replace("-", "_") for name in text.split(",")]
    unknown = [name for name in asked if name not in CONTROLS]
    if unknown:
        raise DrivingError(f"control {unknown[0]!r} is not one of {', '.join(CONTROLS)}, auto, all or none")
    missing = [name for name in asked if name in HISTORY_CONTROLS and name not in of_track]
    if missing:
        raise DrivingError(
            f"control {missing[0]} changes the ego motion in the prompts, and these tell none; leave it out"
        )
    return tuple(name for name in CONTROLS if name in asked)


def alter_frames(control: str, frames: np.ndarray, row_id: str, seed: int) -> np.ndarray:
    """(T, H, W, 3) uint8 -> the same shape with the evidence removed.

    `wrong_clip` alters nothing here: it is the other row's frames, see `plan_donors`.
    """
    if control == "frozen":
        return np.repeat(frames[:1], len(frames), axis=0)
    if control == "mirror":
        return np.ascontiguousarray(mirror_frames(frames))
    if control == "blank":
        return np.full_like(frames, GREY)
    if control == "shuffled":
        return frames[_row_rng(row_id, seed).permutation(len(frames))]
    raise DrivingError(f"control {control!r} does not alter frames")


def alter_records(
    control: str, records: Mapping[str, dict[str, Any]], donors: Mapping[str, str], answer_format: AnswerFormat
) -> dict[str, dict[str, Any]]:
    """The rows whose prompt a control changes, as it asks them, by id.

    Args:
        records: by id; well formed.
        donors: row id -> id of the row whose ego motion it is told.
    """
    if not answer_format.history_pairs:
        return {}
    if control == "no_history":
        return {name: remove_history(record) for name, record in records.items()}
    if control == "wrong_history":
        return {name: replace_history(record, records[donors[name]]) for name, record in records.items()}
    if control == "mirror":
        return {name: mirror_history(record, answer_format) for name, record in records.items()}
    return {}


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
