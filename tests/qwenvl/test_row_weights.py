"""`sampling_weight`: how often a training row is used in an epoch."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("torch")

from driving.errors import RecordError  # noqa: E402
from qwenvl.data import DatasetUse, choose_weighted_rows  # noqa: E402
from qwenvl.data.rows import load_rows  # noqa: E402

pytestmark = pytest.mark.needs_torch


def test_a_weight_is_the_number_of_uses_and_its_fraction_a_seeded_draw():
    weights = [1.0] * 60 + [2.5] * 40
    chosen = choose_weighted_rows(weights, 100, seed=7, name="a")
    uses = Counter(chosen)
    assert len(chosen) == 160 and chosen == sorted(chosen)
    assert {uses[row] for row in range(60)} == {1}
    assert Counter(uses[row] for row in range(60, 100)) == {2: 20, 3: 20}
    assert chosen == choose_weighted_rows(weights, 100, seed=7, name="a")
    assert chosen != choose_weighted_rows(weights, 100, seed=8, name="a")


def test_a_share_scales_the_weights_so_that_common_rows_are_thinned():
    uses = Counter(choose_weighted_rows([1.0] * 80 + [4.0] * 20, 50, seed=7, name="a"))
    assert sum(uses.values()) == 80
    assert {uses[row] for row in range(80, 100)} == {2}
    assert sum(uses[row] for row in range(80)) == 40


def test_at_least_one_row_is_used_and_a_row_of_weight_zero_never():
    assert choose_weighted_rows([0.0, 1.0], 1, seed=7, name="a") == [1]
    assert set(choose_weighted_rows([0.0, 0.3, 0.0, 0.4, 0.3], 1000, seed=7, name="a")) == {1, 3, 4}


def write_weighted(path, training_json, weights) -> DatasetUse:
    records = json.loads(training_json.read_text())
    for record, weight in zip(records, weights, strict=False):
        record["sampling_weight"] = weight
    path.write_text(json.dumps(records))
    return DatasetUse(str(path), path, training_json.parent)


def test_training_uses_rows_as_often_as_they_weigh_and_evaluation_each_once(training_json, tmp_path):
    use = write_weighted(tmp_path / "train.json", training_json, [3.0, 0.0])
    learnt = load_rows([use], seed=7)
    uses = Counter(record["id"] for record in learnt.records)
    assert uses == {"clip00_seg_00": 3} | {f"clip{row:02d}_seg_00": 1 for row in range(2, 10)}
    assert learnt.num_by_name == {use.name: 11} and not learnt.repeated_ids
    assert len(load_rows([use], seed=7, weighted=False).records) == 10


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan"), "2", True, None])
def test_a_weight_that_is_no_number_is_refused_with_its_row(weight, training_json, tmp_path):
    use = write_weighted(tmp_path / "train.json", training_json, [1.0, weight])
    with pytest.raises(RecordError, match="clip01_seg_00 in .*: sampling_weight .* is not a number of 0 or more"):
        load_rows([use], seed=7)


def test_weights_that_are_all_zero_are_refused(training_json, tmp_path):
    use = write_weighted(tmp_path / "train.json", training_json, [0] * 10)
    with pytest.raises(RecordError, match="every sampling_weight is 0"):
        load_rows([use], seed=7)
