"""Our position ids are those that transformers computes, for text, pictures and videos in any order."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from qwenvl.data.positions import plan_positions  # noqa: E402

pytestmark = pytest.mark.needs_torch

# (token types, image grids, video grids); a video of t steps is t blocks with time stamps (text) between them.
CASES = {
    "text": ([0] * 7, [], []),
    "picture": ([0, 0] + [1] * 6 + [0] * 3, [(1, 4, 6)], []),
    "video": ([0] + ([2] * 8 + [0, 0]) * 3, [], [(3, 8, 4)]),
    "both": ([0] + [2] * 2 + [0] + [2] * 2 + [0] + [1] * 4 + [0] * 2, [(1, 4, 4)], [(2, 2, 4)]),
    "two videos": ([2] * 4 + [0] + [2] * 1 + [0] + [2] * 1, [], [(1, 4, 4), (2, 2, 2)]),
}


@pytest.mark.parametrize("case", CASES)
def test_positions_equal_transformers_rope_index(case, tiny_model):
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    types, images, videos = CASES[case]
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(AutoConfig.from_pretrained(tiny_model)).model
    grids = {"image_grid_thw": images, "video_grid_thw": videos}
    expected, _ = model.get_rope_index(
        torch.zeros(1, len(types), dtype=torch.long),
        mm_token_type_ids=torch.tensor([types]),
        **{name: torch.tensor(values) if values else None for name, values in grids.items()},
    )
    found = plan_positions(np.array(types), images, videos, merge=2)
    assert found[1:].tolist() == expected[:, 0].tolist()
    assert found[0].tolist() == list(range(len(types)))


def test_tokens_that_do_not_fit_their_grid_are_refused():
    with pytest.raises(ValueError, match="3 visual tokens in a row do not fit the grid"):
        plan_positions(np.array([0, 1, 1, 1]), [(1, 4, 4)], [], merge=2)


def test_a_grid_without_tokens_is_refused():
    with pytest.raises(ValueError, match="more grids than visual tokens"):
        plan_positions(np.array([0, 0]), [], [(1, 4, 4)], merge=2)
