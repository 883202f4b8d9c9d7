"""--mirror: which rows are mirrored when, and what a mirrored sample holds."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch")

from driving.answer_format import AnswerFormat  # noqa: E402
from driving.errors import DrivingError  # noqa: E402
from qwenvl.data import DatasetUse  # noqa: E402
from qwenvl.data.dataset import DrivingDataset  # noqa: E402
from qwenvl.data.frame_cache import FrameCache  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.data.rows import load_rows  # noqa: E402
from qwenvl.train.argument import parse_plan  # noqa: E402
from qwenvl.train.prepare import describe_mirror  # noqa: E402
from qwenvl.train.samplers import EpochBatches, plan_mirror  # noqa: E402

pytestmark = pytest.mark.needs_torch
BASE = ("--model_name_or_path", "m", "--use_cpu", "True", "--report_to", "none")
WRITTEN = AnswerFormat(num_pairs=1, fps=1.0)


def flatten(batches: EpochBatches, epoch: int = 0) -> list[int]:
    batches.set_epoch(epoch)
    return [row for batch in batches for row in batch]


def test_a_mirrored_row_is_named_apart_and_the_order_stays():
    plain, mirrored = EpochBatches(1000, 4, seed=1), EpochBatches(1000, 4, seed=1, mirror=0.5)
    rows = flatten(mirrored)
    assert [row if row >= 0 else ~row for row in rows] == flatten(plain)
    assert 400 < sum(row < 0 for row in rows) < 600


def test_which_rows_are_mirrored_depends_on_seed_epoch_and_row_alone():
    def mirrored_rows(epoch: int, **shape) -> set[int]:
        given = {"batch_size": 4, "seed": 1, "mirror": 0.3} | shape
        world_size = given.get("world_size", 1)
        ranks = [EpochBatches(100, **given, **({"rank": rank} if world_size > 1 else {})) for rank in range(world_size)]
        return {~row for batches in ranks for row in flatten(batches, epoch) if row < 0}

    first = mirrored_rows(0)
    assert first == mirrored_rows(0, batch_size=7) == mirrored_rows(0, world_size=2)
    assert first == set(np.flatnonzero(plan_mirror(100, 0.3, 1, 0)).tolist())
    assert first != mirrored_rows(1) and first != mirrored_rows(0, seed=2)


def test_none_and_all_rows_are_mirrored_at_the_ends():
    assert min(flatten(EpochBatches(50, 4, seed=1))) == 0
    assert max(flatten(EpochBatches(50, 4, seed=1, mirror=1.0))) == -1


@pytest.mark.parametrize("text, share", [("True", 0.5), ("False", 0.0), ("0.25", 0.25), ("1", 1.0), ("false", 0.0)])
def test_the_flag_is_a_yes_a_no_or_a_share(text, share):
    assert parse_plan([*BASE, "--mirror", text]).data.mirror_share == share


@pytest.mark.parametrize("text", ["2", "-0.1", "often", "nan"])
def test_another_value_is_refused(text):
    with pytest.raises(DrivingError, match=f"--mirror '{text}' is none of True, False and a share"):
        parse_plan([*BASE, "--mirror", text])


def test_packing_plans_lengths_that_a_mirrored_answer_does_not_have():
    with pytest.raises(DrivingError, match="--mirror True with --data_packing True"):
        parse_plan([*BASE, "--mirror", "True", "--data_packing", "True"])


@pytest.fixture
def dataset(training_json, processor, tmp_path) -> DrivingDataset:
    """Rows 0, 3, 6 and 9 of the drawn clips answer with one pair, as the format says; the others with more."""
    records = json.loads(training_json.read_text())
    for index, record in enumerate(records):
        if index % 3 == 0:
            record["conversations"][-1]["value"] = f"[(1.0, -0.00{index + 10})]"
    path = tmp_path / "train.json"
    path.write_text(json.dumps(records))
    rows = load_rows([DatasetUse(str(path), path, training_json.parent)], seed=7)
    settings = processor.video_processor
    preprocessing = Preprocessing(
        video_fps=10.0, video_min_frames=2, factor_px=settings.patch_size * settings.merge_size,
        answer_format=WRITTEN.to_json(),
    )  # fmt: skip
    return DrivingDataset(rows.records, rows.folders, processor, preprocessing, 4096)


def answer_of(sample: dict, processor) -> str:
    supervised = sample["labels"][sample["labels"] >= 0]
    return processor.tokenizer.decode(supervised, skip_special_tokens=True).strip()


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_mirrored_sample_has_its_frames_flipped_and_its_answer_negated(dataset, processor, is_cached):
    plain = dataset[0]
    if is_cached:
        dataset.cache = FrameCache(len(dataset), tuple(plain["videos"][0].shape))
        assert (dataset[0]["videos"][0] == plain["videos"][0]).all()
    mirrored = dataset[~0]
    assert (mirrored["videos"][0] == plain["videos"][0].flip(2)).all()
    assert not (mirrored["videos"][0] == plain["videos"][0]).all()
    assert answer_of(plain, processor) == "[(1.0, -0.0010)]"
    assert answer_of(mirrored, processor) == "[(1.0, 0.0010)]"
    assert mirrored["id"] == plain["id"]
    assert (dataset[0]["videos"][0] == plain["videos"][0]).all()  # the kept frames were not turned


def test_a_row_without_a_mirrored_form_is_shown_as_it_is(dataset):
    plain, asked = dataset[1], dataset[~1]
    assert (plain["videos"][0] == asked["videos"][0]).all()
    assert plain["input_ids"].tolist() == asked["input_ids"].tolist()


def test_a_bad_row_is_told_by_its_own_number_mirrored_or_not(dataset):
    dataset.folders[3] = ()
    dataset.records[3] = {**dataset.records[3], "video": "nowhere.mp4"}
    assert dataset[~3].row == dataset[3].row == 3
    dataset.skip_rows([3])
    assert dataset[~3].reason == "skipped before"


def test_the_plan_says_how_many_rows_have_a_mirrored_form_and_stops_where_none_has(dataset):
    assert "4 of 10 rows looked at have a mirrored form" in describe_mirror(dataset, 0.5)
    dataset.preprocessing = dataclasses.replace(dataset.preprocessing, answer_format=None)
    with pytest.raises(DrivingError, match="--mirror 0.5: none of 10 rows has a mirrored form"):
        describe_mirror(dataset, 0.5)
