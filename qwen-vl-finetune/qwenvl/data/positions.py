"""Where each token stands: the four rows of position ids that the language model reads.

    mm_token_type_ids (L,), grids ──plan_positions──▶ (4, L): place in the sample, time, height, width

Computed in the loader's workers: transformers' own `get_rope_index` reads token types back from the device at every
step. The first row restarts at 0 in every sample; that is how a packed row tells its samples apart.

L = tokens
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Grid = tuple[int, int, int]


def plan_positions(
    token_types: np.ndarray,
    image_grids: Iterable[Grid],
    video_grids: Iterable[Grid],
    merge: int,
    time_steps: Sequence[float] | None = None,
) -> np.ndarray:
    """Position ids of one sample, as an int64 array (4, L).

    Text counts on in all rows. A picture, or one time step of a video, stands still in time, spreads over height and
    width, and takes max(height, width) positions in merged patches.

    Args:
        token_types: (L,) 0 text, 1 image, 2 video.
        image_grids, video_grids: (t, h, w) of each in patches, in the order of the text.
        merge: patches that one token joins along a side.
        time_steps: of each video, how many positions one pair of frames is from the next, fractions cut off
            (Qwen2.5-VL, where a video is one block); None where time stamps part a video's pairs (Qwen3-VL).

    Raises:
        ValueError: The token types do not fit the grids.

    Source: `get_rope_index` of Qwen3-VL and Qwen2.5-VL in transformers 5.23; a test compares them.
    """
    token_types = np.asarray(token_types)
    num_tokens = len(token_types)
    positions = np.empty((4, num_tokens), np.int64)
    positions[0] = np.arange(num_tokens)
    if time_steps is None:
        video_grids = [(1, h, w) for t, h, w in video_grids for _ in range(t)]  # time stamps part a video's steps
    frames = {1: iter(list(image_grids)), 2: iter(list(video_grids))}
    steps = iter(time_steps or ())
    edges = np.flatnonzero(np.diff(token_types)) + 1
    position = 0
    for start, stop in zip([0, *edges], [*edges, num_tokens], strict=True):
        kind = int(token_types[start]) if num_tokens else 0
        if kind == 0:
            positions[1:, start:stop] = np.arange(position, position + stop - start)
            position += stop - start
            continue
        grid = next(frames[kind], None)
        if grid is None or grid[0] * grid[1] * grid[2] != (stop - start) * merge * merge:
            raise ValueError(f"{stop - start} visual tokens in a row do not fit the grid {grid}")
        t, h, w = grid[0], grid[1] // merge, grid[2] // merge
        places = np.indices((t, h, w)).reshape(3, -1)
        if kind == 2 and time_steps is not None:
            # float32 throughout, as transformers has it: 15 x 0.13333 must be cut to the same whole number
            places[0] = (places[0].astype(np.float32) * np.float32(next(steps))).astype(np.int64)
        positions[1:, start:stop] = position + places
        position += max(h, w)
    if any(next(rest, None) is not None for rest in frames.values()):
        raise ValueError("there are more grids than visual tokens")
    return positions
