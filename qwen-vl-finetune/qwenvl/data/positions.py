"""Where each token stands: the four rows of position ids that Qwen3-VL's language model reads.

    mm_token_type_ids (L,), grids ──plan_positions──▶ (4, L): place in the sample, time, height, width

Computed in the loader's workers: transformers' own `get_rope_index` reads token types back from the device at every
step. The first row restarts at 0 in every sample; that is how a packed row tells its samples apart.

L = tokens
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Grid = tuple[int, int, int]


def plan_positions(token_types: np.ndarray, image_grids: Iterable[Grid], video_grids: Iterable[Grid], merge: int):
    """Position ids of one sample, as an int64 array (4, L).

    Text counts on in all rows. A picture, or one time step of a video, stands still in time, spreads over height and
    width, and takes max(height, width) positions in merged patches.

    Args:
        token_types: (L,) 0 text, 1 image, 2 video.
        image_grids, video_grids: (t, h, w) of each in patches, in the order of the text.
        merge: patches that one token joins along a side.

    Raises:
        ValueError: The token types do not fit the grids.

    Source: `Qwen3VLModel.get_rope_index` of transformers 5.23; a test compares the two.
    """
    token_types = np.asarray(token_types)
    num_tokens = len(token_types)
    positions = np.empty((4, num_tokens), np.int64)
    positions[0] = np.arange(num_tokens)
    frames = {
        1: iter(list(image_grids)),
        2: iter([(1, h, w) for t, h, w in video_grids for _ in range(t)]),  # time stamps part a video's steps
    }
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
        positions[1:, start:stop] = position + np.indices((t, h, w)).reshape(3, -1)
        position += max(h, w)
    if any(next(rest, None) is not None for rest in frames.values()):
        raise ValueError("there are more grids than visual tokens")
    return positions
