"""Where predict.py may write its overlay: every name that will not do is one line, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from driving.errors import DrivingError
from evaluation.video.tool import PredictOptions, check_output


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("drive.mp4").write_bytes(b"a video")
    return lambda out, **options: check_output(PredictOptions(video=Path("drive.mp4"), out=Path(out), **options))


@pytest.mark.parametrize("out", ["", ".", "..", "folder.mp4", "folder.mp4/"])
def test_a_folder_is_no_video_and_is_not_replaced(check, out):
    Path("folder.mp4").mkdir()
    with pytest.raises(DrivingError, match="is a folder; name the video in it, like .*overlay.mp4"):
        check(out, overwrite_output=True)


def test_a_slash_too_many_behind_a_new_name_does_not_matter(check):
    assert check("new.mp4/") == Path("new.predictions.jsonl")
