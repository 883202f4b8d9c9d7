"""Order is a pure function of seed and epoch; ranks share it without a row twice or left out."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from qwenvl.train.samplers import EpochBatches  # noqa: E402

pytestmark = pytest.mark.needs_torch


def test_an_epoch_uses_every_row_once():
    assert sorted(row for batch in EpochBatches(10, 3, seed=1) for row in batch) == list(range(10))


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, other = EpochBatches(50, 4, seed=1), EpochBatches(50, 4, seed=1), EpochBatches(50, 4, seed=2)
    assert list(first) == list(again) != list(other)
    again.set_epoch(1)
    assert list(first) != list(again)


@pytest.mark.parametrize("num_rows", [16, 17, 19])
def test_two_ranks_take_as_many_steps_and_share_all_rows(num_rows):
    ranks = [list(EpochBatches(num_rows, 4, seed=1, rank=rank, world_size=2)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) == -(-num_rows // 8)
    assert sorted(row for rank in ranks for batch in rank for row in batch) == list(range(num_rows))


def test_the_global_order_is_the_same_for_one_and_two_ranks():
    alone = [row for batch in EpochBatches(16, 8, seed=1) for row in batch]
    two = [list(EpochBatches(16, 4, seed=1, rank=rank, world_size=2)) for rank in (0, 1)]
    shared = [row for first, second in zip(*two, strict=True) for row in first + second]
    assert shared == alone


def test_grouping_by_length_puts_like_to_like_and_keeps_every_row():
    lengths = [row % 7 for row in range(70)]
    batches = list(EpochBatches(70, 10, seed=1, num_tokens=lengths))
    assert sorted(row for batch in batches for row in batch) == list(range(70))
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)


LENGTHS = [400, 390, 900, 100, 100, 100, 250, 610, 33, 720, 480, 520] * 5


def packed(rank=0, world_size=1, batch_size=1, visual=None):
    visual = visual if visual is not None else [length // 2 for length in LENGTHS]
    return EpochBatches(
        len(LENGTHS), batch_size, 3, rank, world_size, num_tokens=LENGTHS, num_visual=visual, bin_tokens=1024
    )


def test_packing_uses_every_row_once_and_never_overfills_a_bin():
    batches = list(packed())
    assert sorted(row for batch in batches for row in batch) == list(range(len(LENGTHS)))
    assert max(sum(LENGTHS[row] for row in batch) for batch in batches) <= 1024
    assert len(batches) < len(LENGTHS) / 1.8


def test_packing_is_a_function_of_seed_and_epoch_and_the_number_of_batches_never_changes():
    batches, again = packed(), packed()
    first = list(batches)
    assert first == list(again)
    again.set_epoch(1)
    assert first != list(again)
    assert len(list(again)) == len(first) == len(batches) == len(again)


def test_packing_shares_all_rows_among_the_ranks_and_each_takes_as_many_steps():
    ranks = [list(packed(rank, 2, batch_size=2)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    assert sorted(row for rank in ranks for batch in rank for row in batch) == list(range(len(LENGTHS)))


def test_packing_gives_the_ranks_of_a_step_similar_numbers_of_visual_tokens():
    visual = [length * (index % 3) // 2 for index, length in enumerate(LENGTHS)]
    loads = [[sum(visual[row] for row in batch) for batch in packed(rank, 2, visual=visual)][:-1] for rank in (0, 1)]
    apart = [abs(one - other) for one, other in zip(*loads, strict=True)]
    unsorted = [abs(one - other) for one, other in zip(loads[0], loads[1][1:] + loads[1][:1], strict=True)]
    assert sum(apart) < sum(unsorted) / 3
