"""Rows that cannot be used stay out of a run to its end, also where their files are mended between kill and resume."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("torch")
import transformers  # noqa: E402
from tiny_runs import Killed, assert_same_weights, list_flags  # noqa: E402

from driving.errors import DrivingError, LedgerError, VideoError  # noqa: E402
from driving.ledger import Skip, read_ledger  # noqa: E402
from qwenvl.data.clips import read_clips  # noqa: E402
from qwenvl.data.dataset import BadSample, DrivingDataset  # noqa: E402
from qwenvl.data.preprocessing import Preprocessing  # noqa: E402
from qwenvl.train import prepare  # noqa: E402
from qwenvl.train.consensus import Consensus  # noqa: E402
from qwenvl.train.skips import SkipBook  # noqa: E402
from qwenvl.train.train_qwen import run  # noqa: E402

pytestmark = pytest.mark.needs_torch

PADDED = ("--per_device_train_batch_size", "2")
PACKED = ("--per_device_train_batch_size", "1", "--data_packing", "True", "--model_max_length", "512")


class At(transformers.TrainerCallback):
    """Calls `act` between a step and the next."""

    def __init__(self, step: int, act) -> None:
        self.step, self.act = step, act

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.act()


def kill() -> None:
    raise Killed


def arguments(tiny_model, training_json, output_dir, *extra: str) -> list[str]:
    flags = ("--lora_enable", "True", "--lora_r", "4", "--max_bad_fraction", "0.5", "--max_steps", "9")
    flags = (*flags, "--save_steps", "4", "--save_total_limit", "9")
    return list_flags(tiny_model, training_json, output_dir, *flags, *extra)


def skips_of(folder) -> list[tuple[str, str]]:
    return [(skip.id, skip.stage) for skip in read_ledger(folder / "skipped.jsonl")]


class Videos:
    """The files of a copy of the training folder: row 2 is gone, row 5 is cut short, row 7 does not decode."""

    def __init__(self, whole, folder, monkeypatch) -> None:
        shutil.copytree(whole, folder)
        self.whole, self.folder = whole / "videos", folder / "videos"
        self.undecodable = "07.mp4"
        (self.folder / "02.mp4").unlink()
        short = self.folder / "05.mp4"
        short.write_bytes(short.read_bytes()[:200])
        monkeypatch.setattr(prepare, "read_clips", self.read)

    def read(self, record, *args, **kwargs):
        if record["video"].endswith(self.undecodable):
            raise VideoError(f"{self.undecodable} cannot be decoded at frame 3")
        return read_clips(record, *args, **kwargs)

    def mend(self) -> None:
        for name in ("02.mp4", "05.mp4"):
            shutil.copy(self.whole / name, self.folder / name)
        self.undecodable = "none"


@pytest.fixture
def videos(training_json, tmp_path, monkeypatch):
    return Videos(training_json.parent, tmp_path / "data", monkeypatch)


@pytest.mark.parametrize(
    ("flags", "stage"), [(PADDED, "load"), (PACKED, "measure")], ids=["found-while-decoding", "found-by-measuring"]
)
def test_files_mended_between_kill_and_resume_change_no_bit(flags, stage, videos, tiny_model, tmp_path, capsys):
    data = tmp_path / "data/train.json"
    assert run(arguments(tiny_model, data, tmp_path / "whole", *flags)) == 0
    command = arguments(tiny_model, data, tmp_path / "run", *flags)
    with pytest.raises(Killed):
        run(command, callbacks=[At(6, kill)])  # ten rows a epoch: each was seen once
    expected = [("clip02_seg_00", "check"), ("clip05_seg_00", stage), ("clip07_seg_00", "load")]
    assert skips_of(tmp_path / "run/checkpoint-4") == skips_of(tmp_path / "run") == expected
    videos.mend()
    capsys.readouterr()
    assert run(command) == 0
    assert "3 rows stay skipped as before, mended or not (see" in capsys.readouterr().out
    assert skips_of(tmp_path / "run") == skips_of(tmp_path / "run/checkpoint-9") == expected
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_row_that_was_found_after_the_checkpoint_stays_out_too(videos, tiny_model, tmp_path):
    data = tmp_path / "data/train.json"
    assert run(arguments(tiny_model, data, tmp_path / "whole", *PADDED)) == 0
    command = arguments(tiny_model, data, tmp_path / "run", *PADDED, "--save_steps", "2")
    with pytest.raises(Killed):
        run(command, callbacks=[At(3, kill)])
    assert "clip07_seg_00" not in dict(skips_of(tmp_path / "run/checkpoint-2"))
    assert "clip07_seg_00" in dict(skips_of(tmp_path / "run"))
    videos.mend()
    assert run(command) == 0
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_file_mended_while_the_run_goes_on_changes_no_bit(videos, tiny_model, tmp_path):
    data = tmp_path / "data/train.json"
    assert run(arguments(tiny_model, data, tmp_path / "whole", *PADDED)) == 0
    flags = ("--dataloader_num_workers", "2")
    assert run(arguments(tiny_model, data, tmp_path / "run", *PADDED, *flags), callbacks=[At(4, videos.mend)]) == 0
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_came_to_no_checkpoint_sees_mended_files(videos, tiny_model, tmp_path):
    command = arguments(tiny_model, tmp_path / "data/train.json", tmp_path / "run", *PADDED)
    with pytest.raises(Killed):
        run(command, callbacks=[At(3, kill)])
    assert skips_of(tmp_path / "run") != []
    videos.mend()
    assert run(command) == 0
    assert skips_of(tmp_path / "run") == []


def test_a_file_that_is_gone_when_a_packed_run_is_continued_is_asked_for(videos, tiny_model, tmp_path):
    command = arguments(tiny_model, tmp_path / "data/train.json", tmp_path / "run", *PACKED)
    with pytest.raises(Killed):
        run(command, callbacks=[At(5, kill)])
    (videos.folder / "03.mp4").unlink()
    with pytest.raises(
        DrivingError,
        match=r"clip03_seg_00 could be used when .*run was begun, and now: .*03.mp4 is not there .*; put the file back",
    ):
        run(command)


# Two ranks, one of them played


class PlayedConsensus(Consensus):
    """This rank and another one with its own news."""

    def __init__(self, theirs: list[Skip]) -> None:
        super().__init__(2)
        self.theirs = theirs

    def gather(self, value):
        return [value, self.theirs]


@pytest.fixture
def dataset(training_json, processor):
    rows = [{"id": f"row{index}", "video": "gone.mp4", "conversations": []} for index in range(10)]
    return DrivingDataset(rows, [()] * 10, processor, Preprocessing(), 4096)


def test_a_row_that_another_rank_found_is_in_the_ledger_and_skipped_here(dataset, tmp_path):
    book = SkipBook(tmp_path, dataset, [Skip("row0", "check", "gone")], max_bad_fraction=1.0)
    book.note(BadSample("row3", "cut short", row=3))
    assert book.has_news
    book.share(PlayedConsensus([Skip("row5", "load", "too long", {"row": 5})]))
    assert not book.has_news
    assert skips_of(tmp_path) == [("row0", "check"), ("row3", "load"), ("row5", "load")]
    assert dataset[5] == BadSample("row5", "skipped before", row=5)
    book.note(dataset[5])
    assert not book.has_news


def test_the_bad_rows_of_all_ranks_count_together(dataset, tmp_path):
    book = SkipBook(tmp_path, dataset, [Skip("gone", "check", "gone")], max_bad_fraction=0.3)
    book.note(BadSample("row3", "cut short", row=3))
    book.share(PlayedConsensus([]))
    theirs = [Skip(f"row{row}", "load", "too long", {"row": row}) for row in (5, 6)]
    with pytest.raises(LedgerError, match="4 of 11 samples are bad"):
        book.share(PlayedConsensus(theirs))


def test_of_two_rows_with_one_id_only_the_bad_one_is_skipped(dataset, tmp_path):
    dataset.records[4]["id"] = "row3"
    book = SkipBook(tmp_path, dataset, [], max_bad_fraction=1.0)
    book.note(BadSample("row3", "too long", row=4))
    book.share(Consensus(1))
    assert dataset[4].reason == "skipped before" and "gone.mp4 is not there" in dataset[3].reason


def test_another_rank_than_the_first_writes_no_ledger(dataset, tmp_path):
    book = SkipBook(tmp_path, dataset, [], max_bad_fraction=1.0, writes=False)
    book.note(BadSample("row3", "cut short", row=3))
    book.share(Consensus(1))
    assert list(tmp_path.iterdir()) == [] and len(book.skips) == 1
