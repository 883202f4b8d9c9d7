"""Output folders: complete, continued or refused; files whole or absent; skips written down."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from driving import whole_files
from driving.errors import LedgerError
from driving.ledger import Skip, check_bad_fraction, claim_output, read_ledger, write_ledger
from driving.whole_files import dump_json, write_atomically, write_json, write_text

PLAN = {"tool": "cut", "fps": 30, "sizes": [1, 2]}


def make_complete(folder, plan=PLAN):
    with claim_output(folder, plan) as output:
        write_text(folder / "data.txt", "whole")
        output.finish({"rows": 1})


def claim(folder, plan=PLAN, **options):
    with claim_output(folder, plan, **options) as output:
        return output


# folders


def test_a_fresh_folder_is_new(tmp_path):
    output = claim(tmp_path / "deep" / "out")
    assert output.state == "new" and not output.is_complete


def test_a_finished_folder_is_complete_and_tells_its_summary(tmp_path):
    make_complete(tmp_path)
    output = claim(tmp_path)
    assert output.is_complete and output.manifest["summary"] == {"rows": 1}


def test_an_unfinished_folder_is_continued(tmp_path):
    claim(tmp_path)
    write_text(tmp_path / "part.txt", "kept")
    assert claim(tmp_path).state == "continue"
    assert (tmp_path / "part.txt").read_text() == "kept"


def test_a_plan_with_a_tuple_is_the_plan_that_is_read_back(tmp_path):
    make_complete(tmp_path, {**PLAN, "sizes": (1, 2)})
    assert claim(tmp_path, {**PLAN, "sizes": (1, 2)}).is_complete


def test_another_plan_is_refused_with_the_first_difference(tmp_path):
    make_complete(tmp_path)
    with pytest.raises(LedgerError, match="was made with fps = 30, this run asks for 10; pass --overwrite-output"):
        claim(tmp_path, {**PLAN, "fps": 10, "sizes": []})


def test_a_difference_deep_in_a_plan_is_shown_and_not_what_stands_around_it(tmp_path):
    make_complete(tmp_path, {"tool": "train", "pixels": {"video": {"fps": 30, "area": 114688}, "scaler": "area"}})
    with pytest.raises(LedgerError, match=r"made with pixels\.video\.fps = 30, this run asks for 10; "):
        claim(tmp_path, {"tool": "train", "pixels": {"video": {"fps": 10, "area": 114688}, "scaler": "area"}})


def test_a_folder_in_which_nothing_was_made_may_be_given_up_to_another_plan(tmp_path):
    with claim_output(tmp_path, PLAN):
        pass
    other = {**PLAN, "fps": 10}
    with pytest.raises(LedgerError, match="was made with fps = 30"):
        claim(tmp_path, other, give_up=lambda folder: False)
    assert claim(tmp_path, other, give_up=lambda folder: True).state == "new"
    assert json.loads((tmp_path / "plan.json").read_text()) == other


def test_a_complete_folder_is_never_given_up(tmp_path):
    make_complete(tmp_path)
    with pytest.raises(LedgerError, match="was made with fps = 30"):
        claim(tmp_path, {**PLAN, "fps": 10}, give_up=lambda folder: True)


def test_a_plan_that_lacks_a_key_differs_too(tmp_path):
    make_complete(tmp_path)
    with pytest.raises(LedgerError, match=r"sizes = \[1, 2\], this run asks for None"):
        claim(tmp_path, {"tool": "cut", "fps": 30})


def test_a_long_difference_is_cut(tmp_path):
    make_complete(tmp_path, {"note": "x" * 1000})
    with pytest.raises(LedgerError, match=r"x{117}\.\.\., this run"):
        claim(tmp_path, {"note": "y"})


def test_a_strangers_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LedgerError, match=r"holds files that this tool did not write \(thesis.tex"):
        claim(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(LedgerError, match="out cannot be a folder, a file stands in its way"):
        claim(tmp_path / "out")


def test_a_plan_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(LedgerError, match="plan.json is not JSON"):
        claim(tmp_path)


def test_overwrite_replaces_another_plan(tmp_path):
    make_complete(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    assert claim(tmp_path, {"fps": 10}, overwrite=True).state == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "plan.json"]


def test_overwrite_removes_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "precious")
    claim(tmp_path / "out", overwrite=True)
    assert (tmp_path / "precious" / "data").read_text() == "kept"
    assert not (tmp_path / "out" / "link").exists()


@pytest.mark.parametrize("place", [".", ".."])
def test_overwrite_never_empties_the_folder_we_stand_in_or_one_above(tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "kept").write_text("kept")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(LedgerError, match="too precious to be emptied"):
        claim(tmp_path / "here" / place, overwrite=True)
    assert (tmp_path / "here" / "kept").exists()


def test_overwrite_never_empties_a_checkout(tmp_path):
    (tmp_path / ".git").mkdir()
    with pytest.raises(LedgerError, match="too precious"):
        claim(tmp_path, overwrite=True)


def test_a_run_removes_what_a_killed_one_left_half_written(tmp_path):
    claim(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".data.txt.x1y2.part").write_text("half")
    claim(tmp_path)
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_run_killed_before_its_plan_was_whole_leaves_a_fresh_folder(tmp_path):
    (tmp_path / ".plan.json.abc.part").write_text("{")
    assert claim(tmp_path).state == "new"


def test_a_second_writer_in_this_process_is_refused(tmp_path):
    with claim_output(tmp_path, PLAN), pytest.raises(LedgerError, match="another run is writing"):
        claim(tmp_path)


def test_a_second_writer_in_another_process_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from driving.ledger import claim_output\n"
        "from driving.errors import run_main\n"
        "def main():\n    with claim_output(Path(sys.argv[1]), {}): return 0\n"
        "sys.exit(run_main(main))"
    )
    with claim_output(tmp_path, {}):
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert result.returncode == 1
    assert "another run is writing" in result.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), claim_output(tmp_path, PLAN):
        raise RuntimeError("broken")
    assert claim(tmp_path).state == "continue"


# files


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    with write_atomically(path, "w") as handle:
        handle.write("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(path, "w") as handle:
        handle.write("new")
        raise RuntimeError("broken")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_where_and_leaves_no_rest(tmp_path, monkeypatch, number):
    def fail(_):
        raise OSError(number, "no space")

    monkeypatch.setattr(whole_files.os, "fsync", fail)
    with pytest.raises(LedgerError, match="the disk is full while writing .*a.txt; make room and run the same command"):
        write_text(tmp_path / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "b" / "a.txt"):
        with pytest.raises(LedgerError, match="a.txt cannot be written, a file stands where its folder should; choose"):
            write_text(path, "x")


def test_a_folder_in_the_place_of_a_file_is_named_and_stays(tmp_path):
    with pytest.raises(LedgerError, match="is a folder, where a file is to be written; name a file in it"):
        write_text(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LedgerError, match="is no file but a device or a pipe, which would be replaced; name a file"):
        write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/there_is_none"])
def test_nothing_in_dev_is_replaced_by_a_file(name):
    with pytest.raises(LedgerError, match="is no file but a device"):
        whole_files.check_replaceable(Path(name))  # not written: root's test run would pay for a mistake


def test_a_disk_that_is_really_full_is_named(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(LedgerError, match="the disk is full while writing"),
        whole_files.explain_disk_full(tmp_path / "a"),
        open("/dev/full", "w") as handle,
    ):
        handle.write("x")


def test_another_os_error_keeps_its_name(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(whole_files.os, "fsync", fail)
    with pytest.raises(OSError, match="input/output error"):
        write_text(tmp_path / "a.txt", "x")


def test_json_keeps_the_order_of_keys_and_other_alphabets(tmp_path):
    write_json(tmp_path / "a.json", {"z": "ä", "a": 1}, indent=None)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"z": "ä", "a": 1}\n'


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"v": float("nan")})


# skips


def test_skips_are_written_in_one_order_and_read_back(tmp_path):
    skips = [Skip("b", "read", "broken", {"row": 3}), Skip("a", "plan", "no file")]
    write_ledger(tmp_path / "skipped.jsonl", skips)
    lines = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]
    assert read_ledger(tmp_path / "skipped.jsonl") == sorted(skips, key=lambda skip: skip.id)


def test_no_skip_is_an_empty_file(tmp_path):
    write_ledger(tmp_path / "skipped.jsonl", [])
    assert (tmp_path / "skipped.jsonl").read_text() == ""
    assert read_ledger(tmp_path / "missing.jsonl") == []


@pytest.mark.parametrize("num_bad, num_all, fraction", [(3, 3, 0.0), (4, 200, 0.02), (0, 0, 0.0)])
def test_up_to_three_or_the_allowed_share_may_be_bad(tmp_path, num_bad, num_all, fraction):
    assert check_bad_fraction(num_bad, num_all, fraction, tmp_path) is None


def test_more_bad_samples_than_allowed_stop_the_stage(tmp_path):
    with pytest.raises(LedgerError, match=r"5 of 200 samples are bad \(at most 2.0% may be\); see .*skipped.jsonl"):
        check_bad_fraction(5, 200, 0.02, tmp_path / "skipped.jsonl")


@pytest.mark.parametrize("call", ["mkdir", "open"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_an_output_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, call, code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"pathlib.Path.{call}", refuse)
    message = rf"run cannot be written \({os.strerror(code)}\); choose another"
    with pytest.raises(LedgerError, match=message), claim_output(tmp_path / "run", {}):
        pytest.fail("nothing was claimed")


def test_what_a_killed_worker_left_half_written_is_gone_from_a_complete_folder(tmp_path):
    half = tmp_path / "out" / "videos" / ".a.mp4.x1y2z3.part"
    with claim_output(tmp_path / "out", PLAN) as output:
        half.parent.mkdir()
        half.write_bytes(b"ftyp")
        output.finish({})
    assert not half.exists()
