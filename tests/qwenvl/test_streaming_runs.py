"""Whole runs with --streaming True: killed and continued to the same bits, workers, ranks; skips; evaluation."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch")
from forked_ranks import read_log, start_ranks, train_with  # noqa: E402
from tar_shards import write_shards, write_tar  # noqa: E402
from tiny_runs import KillAt, Killed, assert_same_weights, list_flags, read_losses  # noqa: E402
from zygote import Zygote  # noqa: E402

from driving.errors import DrivingError, LedgerError  # noqa: E402
from driving.ledger import read_ledger  # noqa: E402
from qwenvl.data.decode_guard import DecodeGuard  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch
STREAM = ("--streaming", "True", "--data_flatten", "True", "--save_steps", "2", "--gradient_accumulation_steps", "1")
FLAGS = (*STREAM, "--max_steps", "7")  # an epoch of ten rows is five steps
LORA = ("--lora_enable", "True", "--lora_r", "4", "--lora_dropout", "0.1")


@pytest.fixture(scope="module")
def shards(training_json, tmp_path_factory) -> Path:
    """The ten rows in three shards, of 4, 4 and 2."""
    return write_shards(tmp_path_factory.mktemp("shards"), training_json, num_rows=4)


@pytest.fixture(scope="module")
def whole(tiny_model, shards, tmp_path_factory) -> Path:
    """A streamed run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(list_flags(tiny_model, shards, folder, *FLAGS)) == 0
    return folder


def continue_after(step: int, command: list[str]) -> None:
    with pytest.raises(Killed):
        run(command, callbacks=[KillAt(step)])
    assert run(command) == 0


@pytest.mark.parametrize(("num_workers", "step"), [("0", 3), ("2", 3), ("2", 6)])
def test_a_killed_stream_is_continued_to_the_same_bits(num_workers, step, whole, tiny_model, shards, tmp_path, capsys):
    command = list_flags(tiny_model, shards, tmp_path / "run", *FLAGS, "--dataloader_num_workers", num_workers)
    continue_after(step, command)
    assert f"continuing from {tmp_path}/run/checkpoint-{(step - 1) // 2 * 2}" in capsys.readouterr().out
    assert read_losses(tmp_path / "run") == read_losses(whole)
    assert_same_weights(tmp_path / "run", whole)


def test_a_stream_is_continued_between_the_micro_batches_of_an_epochs_last_step(tiny_model, shards, tmp_path):
    flags = (*FLAGS, "--gradient_accumulation_steps", "3", "--save_steps", "1")  # an epoch is a step of 3 and one of 2
    assert run(list_flags(tiny_model, shards, tmp_path / "whole", *flags)) == 0
    continue_after(4, list_flags(tiny_model, shards, tmp_path / "run", *flags))
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_json_is_streamed_in_the_order_of_shards_of_its_rows(whole, tiny_model, training_json, tmp_path):
    one_shard = write_shards(tmp_path / "one", training_json, num_rows=10)
    assert run(list_flags(tiny_model, one_shard, tmp_path / "tar", *FLAGS)) == 0
    continue_after(3, list_flags(tiny_model, training_json, tmp_path / "json", *FLAGS))
    assert_same_weights(tmp_path / "json", tmp_path / "tar")
    assert read_losses(tmp_path / "json") != read_losses(whole)  # three shards are another plan


def test_a_continued_run_reads_no_row_of_before(tiny_model, shards, tmp_path, monkeypatch):
    from qwenvl.data.stream import StreamOrder, StreamRecords

    command = list_flags(tiny_model, shards, tmp_path / "run", *FLAGS, "--seed", "3")
    with pytest.raises(Killed):
        run(command, callbacks=[KillAt(5)])
    asked, find = [], StreamRecords.__getitem__
    monkeypatch.setattr(StreamRecords, "__getitem__", lambda self, row: asked.append(row) or find(self, row))
    assert run([*command, "--max_steps", "5"]) == 0
    last = StreamOrder([4, 4, 2], 3).rows_at(0, 8, 10)
    assert set(asked) == {0, *last}  # row 0 is the sample that the plan shows


def test_the_plan_says_what_is_streamed(whole, capsys, tiny_model, shards, tmp_path):
    assert run([*list_flags(tiny_model, shards, tmp_path / "run", *FLAGS), "--dry_run", "True"]) == 0
    said = capsys.readouterr().out
    assert "streaming        10 rows of 3 shards, shuffled; each is checked when it is read" in said
    assert "memory and time are estimated from the first one alone" in said
    assert json.loads((whole / "train_plan.json").read_text())["rows"] == 10
    assert json.loads((whole / "training_groups.json").read_text()) == [f"clip{index:02d}" for index in range(5)]


def test_a_killed_run_sees_the_same_rows_mirrored(tiny_model, shards, tmp_path):
    flags = (*FLAGS, "--mirror", "0.5")
    words = tmp_path / "words"
    write_words(shards, words)
    assert run(list_flags(tiny_model, words / "train", tmp_path / "whole", *flags)) == 0
    continue_after(3, list_flags(tiny_model, words / "train", tmp_path / "run", *flags))
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    assert run(list_flags(tiny_model, words / "train", tmp_path / "plain", *FLAGS)) == 0
    assert read_losses(tmp_path / "plain") != read_losses(tmp_path / "whole")


# What may change between two runs, and what may not


def test_a_run_is_not_continued_with_other_shards(tiny_model, training_json, tmp_path):
    prefix = write_shards(tmp_path / "shards", training_json, num_rows=4)
    command = list_flags(tiny_model, prefix, tmp_path / "run", *FLAGS)
    with pytest.raises(Killed):
        run(command, callbacks=[KillAt(3)])
    tar = tmp_path / "shards/train-000002.tar"
    tar.write_bytes(tar.read_bytes().replace(b"You drive.", b"You crawl."))
    with pytest.raises(LedgerError, match="data_hashes"):
        run(command)
    write_shards(tmp_path / "shards", training_json, num_rows=4)  # written anew, with the same rows
    assert run(command) == 0


def test_a_run_is_not_continued_with_rows_in_memory(tiny_model, training_json, tmp_path):
    command = list_flags(tiny_model, training_json, tmp_path / "run", *FLAGS)
    with pytest.raises(Killed):
        run(command, callbacks=[KillAt(3)])
    with pytest.raises(LedgerError, match="streaming"):
        run([*command, "--streaming", "False"])


# Rows that cannot be used, and evaluation


def test_rows_that_cannot_be_decoded_are_skipped_again_when_they_were_mended(tiny_model, training_json, tmp_path):
    shutil.copytree(training_json.parent, tmp_path / "data")
    broken = tmp_path / "data/videos/05.mp4"
    broken.write_bytes(broken.read_bytes()[:200])
    flags = (*FLAGS, "--max_bad_fraction", "0.5", "--dataloader_num_workers", "2")
    data = tmp_path / "data/train.json"
    assert run(list_flags(tiny_model, data, tmp_path / "whole", *flags)) == 0
    command = list_flags(tiny_model, data, tmp_path / "run", *flags)
    with pytest.raises(Killed):
        run(command, callbacks=[KillAt(5)])
    shutil.copy(training_json.parent / "videos/05.mp4", broken)
    assert run(command) == 0
    for name in ("whole", "run"):
        found = read_ledger(tmp_path / name / "skipped.jsonl")
        assert [(skip.id, skip.stage, skip.values["row"]) for skip in found] == [("clip05_seg_00", "load", 5)]
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_shard_that_changes_under_the_run_ends_it_in_one_line(num_workers, tiny_model, training_json, tmp_path):
    prefix = write_shards(tmp_path / "shards", training_json, num_rows=4)
    command = list_flags(tiny_model, prefix, tmp_path / "run", *FLAGS, "--max_steps", "50")

    class Change(KillAt):
        def on_step_end(self, args, state, control, **kwargs):
            tar = tmp_path / "shards/train-000001.tar"
            tar.write_bytes(tar.read_bytes() + b"x")

    with pytest.raises(DrivingError, match="train-000001.tar is not as it was when the run began .*; put it back"):
        run([*command, "--dataloader_num_workers", num_workers], callbacks=[Change(0)])


def test_the_decode_guard_reads_from_the_shards(tiny_model, shards, tmp_path, monkeypatch):
    read, asked = DecodeGuard.read, []

    def note(self, record, *args):
        asked.append((Path(record["video"]).name, record["byte_range"][0] > 0))
        return read(self, record, *args)

    monkeypatch.setattr(DecodeGuard, "read", note)
    assert run(list_flags(tiny_model, shards, tmp_path / "run", *STREAM, "--max_steps", "1")) == 0
    assert set(asked) <= {(f"train-{number:06d}.tar", True) for number in range(3)} and len(asked) == 3


@pytest.mark.parametrize("form", ["json", "tar"])
def test_a_streamed_run_is_evaluated_on_the_val_rows_beside_it(form, tiny_model, training_json, tmp_path, capsys):
    rows = json.loads(training_json.read_text())
    shutil.copytree(training_json.parent, tmp_path / "data")
    for split, chosen in (("train", rows[:6]), ("val", rows[6:])):
        (tmp_path / f"data/{split}.json").write_text(json.dumps(chosen))
        write_shards(tmp_path / "shards", tmp_path / f"data/{split}.json", split=split)
    data = tmp_path / ("data/train.json" if form == "json" else "shards/train")
    flags = (*FLAGS, "--eval_strategy", "steps", "--eval_steps", "3", "--max_steps", "3")
    assert run(list_flags(tiny_model, data, tmp_path / "run", *flags)) == 0
    said = capsys.readouterr().out
    assert "evaluation       every 3 steps: loss of 4 rows, 4 answers of at most " in said
    assert "evaluation at step 3: loss " in said and "also trained on" not in said


def test_recordings_that_are_streamed_and_evaluated_on_are_warned_about(tiny_model, shards, tmp_path, capsys):
    flags = (*FLAGS, "--eval_strategy", "epoch", "--eval_dataset_use", str(shards), "--dry_run", "True")
    assert run(list_flags(tiny_model, shards, tmp_path / "run", *flags)) == 0
    assert "WARNING          5 of 5 recordings evaluated on are also trained on" in capsys.readouterr().out


def test_without_val_shards_the_run_says_so_before_it_starts(tiny_model, shards, tmp_path):
    with pytest.raises(DrivingError, match="there is no .*/val to evaluate on beside train; .*--eval_dataset_use"):
        run(list_flags(tiny_model, shards, tmp_path / "run", *FLAGS, "--eval_strategy", "epoch"))


# kill -9, and ranks


@pytest.fixture(scope="module")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.stop()


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_killed_with_minus_nine_a_stream_ends_in_the_same_bits(num_workers, zygote, tiny_model, shards, tmp_path):
    flags = (*STREAM, *LORA, "--max_steps", "18", "--save_steps", "1", "--dataloader_num_workers", num_workers)
    expected = zygote.start(list_flags(tiny_model, shards, tmp_path / "whole", *flags), tmp_path / "whole_said")
    assert expected.wait() == 0, expected.read("err")
    for step in (2, 7, 13):
        one = zygote.start(list_flags(tiny_model, shards, tmp_path / "run", *flags), tmp_path / "said")
        one.wait_for_step(tmp_path / "run", step)
        os.kill(one.pid, signal.SIGKILL)
        assert one.wait() == -signal.SIGKILL
    one = zygote.start(list_flags(tiny_model, shards, tmp_path / "run", *flags), tmp_path / "said")
    assert one.wait() == 0, one.read("err")
    assert "continuing from" in one.read("out")
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    assert read_losses(tmp_path / "run") == read_losses(tmp_path / "whole")


RANKS = (*STREAM, *LORA, "--per_device_train_batch_size", "1", "--max_steps", "12")


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_two_ranks_that_are_killed_end_in_the_same_bits(num_workers, tiny_model, shards, tmp_path):
    flags = (*RANKS, "--dataloader_num_workers", num_workers)
    expected = train_with(list_flags(tiny_model, shards, tmp_path / "whole", *flags))
    command = list_flags(tiny_model, shards, tmp_path / "run", *flags)
    ranks = start_ranks(command, 2)
    ranks.wait_for_step(7)
    ranks.kill()
    train_with(command)
    assert "continuing from" in (tmp_path / "run.log").read_text()
    assert_same_weights(tmp_path / "run", expected)


@pytest.mark.slow
def test_one_rank_goes_on_with_the_steps_of_two(tiny_model, shards, tmp_path):
    flags = (*RANKS, "--lora_dropout", "0")
    expected = train_with(list_flags(tiny_model, shards, tmp_path / "whole", *flags))
    command = list_flags(tiny_model, shards, tmp_path / "run", *flags)
    ranks = start_ranks(command, 2)
    ranks.wait_for_step(7)
    ranks.kill()
    train_with([*command, "--elastic", "True"], 1)
    losses = [[line["loss"] for line in read_log(folder)] for folder in (tmp_path / "run", expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def write_words(prefix: Path, folder: Path) -> None:
    """The rows of the shards with answers in words, which have a mirrored form."""
    from qwenvl.data.stream_rows import find_shards, iter_rows

    members = []
    for path in find_shards(prefix):
        for row in iter_rows(path):
            start, size = row.record["byte_range"]
            turns = [*row.record["conversations"][:-1], {"from": "gpt", "value": "Turn left."}]
            facts = {"id": row.record["id"], "group": row.record["group"], "conversations": turns}
            members.append((row.record["member"], path.read_bytes()[start : start + size]))
            members.append((f"{row.record['member'].removesuffix('.mp4')}.json", json.dumps(facts).encode()))
    write_tar(folder / "train-000000.tar", members)
