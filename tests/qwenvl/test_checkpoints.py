"""Checkpoints: which are trusted, which are passed over and why. Files of a few bytes stand for the weights."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train import checkpoints  # noqa: E402
from qwenvl.train.base_model import BaseModel  # noqa: E402

PLAN = {"learning_rate": 0.1}
BASE = BaseModel("base", "0123456789abcdef")


def write_checkpoint(output_dir, step: int, plan=PLAN):
    folder = output_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "optimizer.pt").write_bytes(b"moments")
    checkpoints.mark_complete(folder, step, plan)
    return folder


def break_by_removing(folder):
    (folder / "optimizer.pt").unlink()


def break_by_shortening(folder):
    (folder / "model.safetensors").write_bytes(b"weig")


def break_by_emptying(folder):
    (folder / "complete.json").write_text("")


def break_by_dropping_keys(folder):
    (folder / "complete.json").write_text(json.dumps({"step": 4}))


def break_by_a_list(folder):
    (folder / "complete.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_by_removing, "checkpoint-4 is damaged: optimizer.pt is gone"),
        (break_by_shortening, "checkpoint-4 is damaged: model.safetensors holds 4 of its 7 bytes"),
        (break_by_emptying, "checkpoint-4 is damaged: its complete.json cannot be read (JSONDecodeError"),
        (break_by_dropping_keys, "checkpoint-4 is damaged: its complete.json cannot be read (KeyError('files'))"),
        (break_by_a_list, "checkpoint-4 is damaged: its complete.json cannot be read (TypeError"),
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_by_name(damage, reason, tmp_path):
    older, newer = write_checkpoint(tmp_path, 2), write_checkpoint(tmp_path, 4)
    damage(newer)
    found, passed_over = checkpoints.find_newest_complete(tmp_path, PLAN)
    assert found == older
    assert len(passed_over) == 1 and passed_over[0].startswith(reason)


def test_the_newest_complete_checkpoint_is_found_and_nothing_is_passed_over(tmp_path):
    write_checkpoint(tmp_path, 2)
    newer = write_checkpoint(tmp_path, 10)
    assert checkpoints.find_newest_complete(tmp_path, PLAN) == (newer, [])


def test_a_complete_checkpoint_of_another_plan_is_refused(tmp_path):
    write_checkpoint(tmp_path, 2, {"learning_rate": 0.2})
    with pytest.raises(DrivingError, match="checkpoint-2 belongs to another run"):
        checkpoints.find_newest_complete(tmp_path, PLAN)


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path):
    for step in (2, 4, 6):
        write_checkpoint(tmp_path, step)
    break_by_removing(tmp_path / "checkpoint-6")
    checkpoints.remove_old(tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-6"]


def test_a_run_without_a_complete_checkpoint_gives_up_its_folder_and_leaves_the_notes_of_others(tmp_path):
    (write_checkpoint(tmp_path, 2) / "complete.json").unlink()
    for name in ("plan.json", "training_log.jsonl", "skipped.rank1.jsonl", "notes.txt"):
        (tmp_path / name).write_text("")
    assert checkpoints.give_up_unstarted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_with_a_complete_checkpoint_keeps_its_folder(tmp_path):
    folder = write_checkpoint(tmp_path, 2)
    assert not checkpoints.give_up_unstarted(tmp_path)
    assert checkpoints.find_asked(folder, PLAN, BASE) == folder


def test_a_checkpoint_that_is_asked_for_must_be_there_and_whole(tmp_path):
    with pytest.raises(DrivingError, match="--resume_from_checkpoint .*checkpoint-3 is no folder"):
        checkpoints.find_asked(tmp_path / "checkpoint-3", PLAN, BASE)
    folder = write_checkpoint(tmp_path, 2)
    break_by_removing(folder)
    with pytest.raises(DrivingError, match="--resume_from_checkpoint .*checkpoint-2 is damaged: optimizer.pt is gone"):
        checkpoints.find_asked(folder, PLAN, BASE)


def test_a_checkpoint_that_was_given_another_number_is_refused(tmp_path):
    write_checkpoint(tmp_path, 2).rename(tmp_path / "checkpoint-8")
    with pytest.raises(DrivingError, match="checkpoint-8 belongs to another run; give another --output_dir"):
        checkpoints.find_newest_complete(tmp_path, PLAN)
