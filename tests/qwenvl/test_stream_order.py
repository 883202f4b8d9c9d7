"""The order of a stream: every row once an epoch, computed for any position, shared out to ranks and workers alike."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from qwenvl.data.stream import StreamOrder  # noqa: E402
from qwenvl.train.stream_loader import SampleStream, StreamBatches, StreamLoader, jump_over_batches  # noqa: E402

pytestmark = pytest.mark.needs_torch
SHARDS = [1000, 3, 4096, 300, 1, 700] * 3  # 18,300 rows in 84 blocks, six windows


def order_of(epoch: int, seed: int = 1, shards: list[int] = SHARDS) -> list[int]:
    return StreamOrder(shards, seed).rows_at(epoch, 0, sum(shards))


def test_an_epoch_holds_every_row_once():
    assert sorted(order_of(0)) == list(range(18_300))


def test_the_order_is_another_one_in_another_epoch_and_with_another_seed():
    assert len({tuple(order_of(*chosen)) for chosen in ((0, 1), (1, 1), (0, 2))}) == 3


@pytest.mark.parametrize("size", [1, 7, 1000, 5000])
def test_any_piece_of_an_epoch_is_found_without_the_one_before(size):
    order = StreamOrder(SHARDS, 1)
    starts = list(range(0, 18_300, size))[::-1]
    assert [order.rows_at(2, start, start + size) for start in starts[:40]] == [
        order_of(2)[start : start + size] for start in starts[:40]
    ]


def test_sixteen_blocks_are_shuffled_together():
    blocks = np.array(order_of(0, shards=[256 * 64])) // 256
    windows = [set(blocks[start : start + 4096].tolist()) for start in range(0, 256 * 64, 4096)]
    assert [len(window) for window in windows] == [16] * 4 and len(set().union(*windows)) == 64
    assert len(set(blocks[:64].tolist())) > 12  # not one block after the other


def test_up_to_a_window_every_row_may_stand_anywhere():
    firsts = {order_of(epoch, shards=[5, 5])[0] for epoch in range(100)}
    assert firsts == set(range(10))


def test_of_many_small_shards_more_are_shuffled_together():
    order = order_of(0, shards=[10] * 1000)  # 409 and a bit make 4,096 rows
    shards_seen = [{row // 10 for row in order[start : start + 4090]} for start in (0, 4100)]
    assert [len(seen) for seen in shards_seen] == [410, 410]
    firsts = {order_of(epoch, shards=[1] * 40)[0] for epoch in range(400)}
    assert firsts == set(range(40))
    alike = sum(abs(one - other) == 1 for one, other in zip(order, order[1:], strict=False))
    assert alike < 20  # about 4 of 10,000 pairs are neighbours in a shard; within 16 shards at a time it would be 110


def test_the_mirrored_rows_are_a_share_that_is_drawn_for_each_row_and_epoch():
    order = StreamOrder([2000], 1)
    chosen = [[order.is_mirrored(epoch, row, 0.3) for row in range(2000)] for epoch in (0, 1, 0)]
    assert chosen[0] == chosen[2] != chosen[1]
    assert 0.25 < np.mean(chosen[0]) < 0.35


def test_a_batch_names_a_mirrored_row_by_its_complement():
    order = StreamOrder([50], 1)
    plain, mirrored = (
        [row for batch in StreamBatches(order, 4, mirror=share) for row in batch] for share in (0.0, 0.5)
    )
    assert [row if row >= 0 else ~row for row in mirrored] == plain
    assert [row < 0 for row in mirrored] == [order.is_mirrored(0, row, 0.5) for row in plain]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_step_learns_from_the_same_rows_however_many_ranks_share_it(world_size):
    order = StreamOrder([31], 1)
    ranks = [list(StreamBatches(order, 6 // world_size, rank, world_size)) for rank in range(world_size)]
    steps = [sorted(sum(batches, [])) for batches in zip(*ranks, strict=True)]
    expected = order_of(0, shards=[31])
    assert steps == [sorted(expected[start : start + 6]) for start in range(0, 31, 6)]


class Rows:
    """Samples that are their row numbers; notes which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, row: int) -> int:
        self.asked.append(row)
        return row


def build_loader(rows: Rows, num_workers: int) -> StreamLoader:
    stream = SampleStream(rows, StreamBatches(StreamOrder([23], 1), 3))
    forked = {"multiprocessing_context": "fork", "persistent_workers": True} if num_workers else {}
    return StreamLoader(stream, collate_fn=list, num_workers=num_workers, **forked)


def batches_of(epoch: int) -> list[list[int]]:
    rows = order_of(epoch, shards=[23])
    return [rows[start : start + 3] for start in range(0, 23, 3)]


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_any_number_of_workers_gives_the_same_batches_in_every_epoch(num_workers):
    loader = build_loader(Rows(), num_workers)
    assert len(loader) == 8
    for epoch in (0, 1, 2):
        loader.set_epoch(epoch)
        assert list(loader) == batches_of(epoch)
    loader.stop_workers()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_jump_is_of_one_epoch_alone(num_workers):
    import transformers.trainer

    loader = build_loader(Rows(), num_workers)
    with jump_over_batches():
        assert transformers.trainer.skip_first_batches(loader, 5) is loader
    loader.set_epoch(1)
    assert list(loader) == batches_of(1)[5:]
    loader.set_epoch(2)
    assert list(loader) == batches_of(2)
    loader.stop_workers()


def test_nothing_before_a_jump_is_read():
    rows = Rows()
    loader = build_loader(rows, 0)
    assert list(loader.jump(6)) == batches_of(0)[6:]
    assert rows.asked == sum(batches_of(0)[6:], [])


def test_other_loaders_are_skipped_in_as_before():
    import transformers.trainer
    from torch.utils.data import DataLoader

    skip = transformers.trainer.skip_first_batches
    with jump_over_batches():
        rest = transformers.trainer.skip_first_batches(DataLoader(range(10), 2, collate_fn=list), 3)
        assert list(rest) == [[6, 7], [8, 9]]
    assert transformers.trainer.skip_first_batches is skip
