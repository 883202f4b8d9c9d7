"""Going on with another number of processes: what it refuses, and that every step learns from the same rows."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
from forked_ranks import read_log, start_ranks, train_with  # noqa: E402
from tiny_runs import list_flags  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.checkpoints import mark_complete, read_num_processes  # noqa: E402
from qwenvl.train.elastic import check_processes, draw_seed, refuse_other_shares, share_out  # noqa: E402
from qwenvl.train.samplers import EpochBatches  # noqa: E402

pytestmark = pytest.mark.needs_torch

BEGUN = {"tool": "train", "batch_size": 1, "gradient_accumulation_steps": 4, "world_size": 2, "seed": 1}


def plan_of(num_processes: int, batch_size: int = 1, accumulation: int = 4, elastic: bool = True):
    run = SimpleNamespace(
        per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, output_dir="runs/a",
        elastic=elastic,
    )  # fmt: skip
    return SimpleNamespace(run=run, num_processes=num_processes)


@pytest.mark.parametrize(("num_processes", "batch_size", "expected"), [(1, 1, 8), (4, 1, 2), (1, 4, 2), (8, 1, 1)])
def test_accumulation_follows_so_that_a_step_keeps_its_samples(num_processes, batch_size, expected):
    plan = plan_of(num_processes, batch_size)
    said = share_out(plan, BEGUN)
    assert plan.run.gradient_accumulation_steps == expected
    assert said == f"--elastic: {expected} accumulation, so that a step stays 8 samples"


def test_the_same_number_of_processes_changes_nothing():
    assert share_out(plan_of(2), BEGUN) == ""


def test_processes_that_cannot_share_a_step_are_refused():
    with pytest.raises(DrivingError, match="8 samples a step, which 3 processes with 1 at once cannot share"):
        share_out(plan_of(3), BEGUN)


def test_without_elastic_another_number_of_processes_is_refused_by_name():
    with pytest.raises(DrivingError, match="was begun with 2 processes, this run has 1; .* --elastic True"):
        refuse_other_shares({**BEGUN, "world_size": 1}, BEGUN, "runs/a")


def test_a_run_that_differs_in_more_is_left_to_the_comparison_of_plans():
    refuse_other_shares({**BEGUN, "world_size": 1, "seed": 2}, BEGUN, "runs/a")


@pytest.fixture
def written_by_two(tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    mark_complete(tmp_path / "checkpoint-4", 4, {}, num_processes=2)
    return tmp_path / "checkpoint-4"


def test_a_checkpoint_of_other_processes_needs_elastic(written_by_two):
    check_processes(written_by_two, plan_of(2, elastic=False), "data parallel")
    check_processes(written_by_two, plan_of(1), "data parallel")
    with pytest.raises(DrivingError, match="was written by 2 processes, this run has 1; .* --elastic True"):
        check_processes(written_by_two, plan_of(1, elastic=False), "data parallel")


def test_shards_of_other_processes_cannot_be_read(written_by_two):
    check_processes(written_by_two, plan_of(2), "ZeRO-2")
    with pytest.raises(DrivingError, match="states that ZeRO-2 cut for 2 processes, 1 cannot read them"):
        check_processes(written_by_two, plan_of(1), "ZeRO-2")


def test_every_rank_and_step_draws_another_seed():
    assert len({draw_seed(1, step, rank) for step in range(10) for rank in range(10)}) == 100


LENGTHS = [400, 390, 900, 100, 100, 100, 250, 610, 33, 720, 480, 520, 90] * 3
ORDERS = {
    "rows": {},
    "rows of like length": {"num_tokens": LENGTHS},
    "bins": {"num_tokens": LENGTHS, "num_visual": [length // 2 for length in LENGTHS], "bin_tokens": 1024},
}


def rows_of_each_step(batch_size: int, accumulation: int, world_size: int, order: dict) -> list[list[int]]:
    ranks = [EpochBatches(len(LENGTHS), batch_size, 3, rank, world_size, **order) for rank in range(world_size)]
    for batches in ranks:
        batches.group_size = 4
    micro = [sum(batches, []) for batches in zip(*ranks, strict=True)]
    return [sorted(sum(micro[start : start + accumulation], [])) for start in range(0, len(micro), accumulation)]


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize(("batch_size", "accumulation", "world_size"), [(1, 8, 1), (2, 1, 4), (2, 4, 1), (4, 1, 2)])
def test_a_step_learns_from_the_same_rows_however_they_are_shared(order, batch_size, accumulation, world_size):
    expected = rows_of_each_step(2, 2, 2, ORDERS[order])
    assert rows_of_each_step(batch_size, accumulation, world_size, ORDERS[order]) == expected


def command(tiny_model, training_json, output_dir, *more: str) -> list[str]:
    flags = ("--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2", "--max_steps", "7")
    flags = (*flags, "--save_steps", "2", "--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0")
    return list_flags(tiny_model, training_json, output_dir, *flags, *more)


@pytest.fixture(scope="module")
def whole(tiny_model, training_json, tmp_path_factory):
    """Seven steps of four rows with two processes: two epochs of ten rows and a step."""
    return train_with(command(tiny_model, training_json, tmp_path_factory.mktemp("whole") / "run"))


def losses_of(folder) -> list[float]:
    return [line["loss"] for line in read_log(folder)]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_that_goes_on_with_other_processes_learns_from_the_rows_that_were_left(
    whole, tiny_model, training_json, tmp_path, before, after
):
    share = ["--gradient_accumulation_steps", str(4 // before)]
    argv = command(tiny_model, training_json, tmp_path / "run", *share, "--elastic", "True")
    ranks = start_ranks(argv, before)
    ranks.wait_for_step(5)  # the checkpoint of step 4 is whole
    ranks.kill()
    assert read_num_processes(tmp_path / "run/checkpoint-4") == before
    train_with(argv, after)
    said = (tmp_path / "run.log").read_text()
    assert f"--elastic: {4 // after} accumulation, so that a step stays 4 samples" in said
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(whole), rel=1e-4)
    assert read_num_processes(tmp_path / "run/checkpoint-7") == after


@pytest.mark.slow
def test_without_the_flag_and_with_another_engine_the_run_is_refused_and_untouched(
    whole, tiny_model, training_json, repository
):
    plan = json.loads((whole / "plan.json").read_text())
    alone = start_ranks(command(tiny_model, training_json, whole), 1)
    assert alone.wait() == [1]
    assert (
        "was begun with 2 processes, this run has 1; train on with as many, or pass --elastic" in alone.log.read_text()
    )
    zero2 = ["--deepspeed", str(repository / "qwen-vl-finetune/scripts/zero2.json"), "--max_steps", "9"]
    sharded = start_ranks(command(tiny_model, training_json, whole, *zero2), 2)
    assert set(sharded.wait()) == {1}
    assert "was made with engine = data parallel, this run asks for ZeRO-2;" in sharded.log.read_text()
    assert json.loads((whole / "plan.json").read_text()) == plan
