"""Drawn tokens: shares as the probabilities say, the same dice for a row in any company."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch  # noqa: E402

from qwenvl.train.sampling import Sampling, build_sampler, draw_tokens, roll  # noqa: E402

pytestmark = pytest.mark.needs_torch

SHARES = torch.tensor([0.1, 0.6, 0.05, 0.25])


def draw(num_dice: int, **values) -> np.ndarray:
    """How often each of four tokens comes under evenly spaced dice."""
    dice = (torch.arange(num_dice, dtype=torch.float64) + 0.5) / num_dice
    tokens = draw_tokens(SHARES.log().expand(num_dice, 4), dice, Sampling(1, **values))
    return np.bincount(tokens.numpy(), minlength=4) / num_dice


def test_tokens_come_as_often_as_their_probabilities_say():
    assert draw(1000) == pytest.approx(SHARES.numpy(), abs=0.002)


def test_top_p_draws_from_the_likeliest_that_hold_the_share():
    # 0.6 alone does not hold 0.8, 0.6 + 0.25 does
    assert draw(1000, top_p=0.8) == pytest.approx([0, 0.6 / 0.85, 0, 0.25 / 0.85], abs=0.002)
    assert draw(1000, top_p=0.5) == pytest.approx([0, 1, 0, 0])


def test_temperature_sharpens():
    squared = SHARES.numpy() ** 2
    assert draw(1000, temperature=0.5) == pytest.approx(squared / squared.sum(), abs=0.002)


def test_dice_are_of_the_seed_the_row_and_the_sample_alone():
    sampling = Sampling(4, seed=3)
    first = roll(sampling, "clip_1", 0, 5)
    assert np.array_equal(roll(sampling, "clip_1", 0, 50)[:5], first)
    others = [roll(sampling, "clip_2", 0, 5), roll(sampling, "clip_1", 1, 5), roll(Sampling(4, seed=4), "clip_1", 0, 5)]
    assert not any(np.array_equal(first, other) for other in others)
    assert (first >= 0).all() and (first < 1).all()


def test_a_rows_draw_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    scores = torch.randn(3, 50)
    sampling = Sampling(1)
    together = build_sampler(sampling, ["a", "b", "c"], 0, 4)(None, scores).argmax(dim=-1)
    alone = [build_sampler(sampling, [name], 0, 4)(None, scores[[row]]).argmax() for row, name in enumerate("abc")]
    assert together.tolist() == [int(token) for token in alone]


def test_a_sampler_leaves_one_token_a_row_and_rolls_anew_each_step():
    sampler = build_sampler(Sampling(1), ["a"], 0, 64)
    scores = torch.zeros(1, 100)
    steps = [sampler(None, scores) for _ in range(64)]
    assert {int(torch.isfinite(step).sum()) for step in steps} == {1}
    assert len({int(step.argmax()) for step in steps}) > 30


def test_a_token_that_cannot_come_never_does():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    assert [int(draw_tokens(scores, torch.tensor([dice]), Sampling(1))) for dice in (0.0, 0.5, 0.9999999)] == [1, 1, 1]


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_looking_at_the_likeliest_first_changes_no_draw(top_p, monkeypatch):
    torch.manual_seed(1)
    scores = torch.randn(500, 1000) * torch.linspace(0.1, 8, 500)[:, None]  # from flat to peaked
    dice = torch.rand(500, dtype=torch.float64)
    quick = draw_tokens(scores, dice, Sampling(1, top_p=top_p))
    monkeypatch.setattr("qwenvl.train.sampling.NUM_LIKELIEST", 1000)
    assert torch.equal(draw_tokens(scores, dice, Sampling(1, top_p=top_p)), quick)


def test_an_unlikely_token_beyond_the_likeliest_comes_too():
    flat = torch.zeros(1, 10_000)
    tokens = {int(draw_tokens(flat, torch.tensor([dice]), Sampling(1))) for dice in np.linspace(0.001, 0.999, 200)}
    assert len(tokens) == 200
