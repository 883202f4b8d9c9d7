"""What a finished folder must still hold, and what its writer may never delete."""

from __future__ import annotations

import pytest

from driving import completeness
from driving.completeness import find_damage, measure_files
from driving.errors import LedgerError
from driving.ledger import check_whole, claim_output, read_ledger
from driving.whole_files import write_text

PLAN = {"tool": "cut", "fps": 30}


def make_complete(folder, plan=PLAN):
    with claim_output(folder, plan) as output:
        write_text(folder / "videos" / "a.txt", "1234")
        write_text(folder / "videos" / "b.txt", "12")
        output.finish({}, ["videos", "index"])


def claim(folder, plan=PLAN, **options):
    with claim_output(folder, plan, **options) as output:
        return output


# what is there


def test_files_are_measured_and_what_is_not_there_is_left_out(tmp_path):
    make_complete(tmp_path)
    assert measure_files(tmp_path, ["videos", "index"]) == {"videos/a.txt": 4, "videos/b.txt": 2}


def test_of_a_large_folder_only_the_number_of_files_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(completeness, "MAX_LISTED", 1)
    make_complete(tmp_path)
    files = measure_files(tmp_path, ["videos"])
    assert files == {"videos": {"num_files": 2}}
    assert find_damage(tmp_path, files) == []
    (tmp_path / "videos" / "a.txt").unlink()
    assert find_damage(tmp_path, files) == ["videos"]


def test_a_whole_folder_is_complete_whatever_else_lies_in_it(tmp_path):
    make_complete(tmp_path)
    (tmp_path / "videos" / "note.txt").write_text("mine")
    assert claim(tmp_path).is_complete


def test_a_folder_that_lost_a_file_is_continued_and_says_so(tmp_path, capsys):
    make_complete(tmp_path)
    (tmp_path / "videos" / "a.txt").unlink()
    assert claim(tmp_path).state == "continue"
    assert "was complete, but videos/a.txt is missing or of another size; made again" in capsys.readouterr().out


def test_a_file_cut_short_is_removed_so_that_it_is_made_again(tmp_path):
    make_complete(tmp_path)
    (tmp_path / "videos" / "a.txt").write_text("12")
    assert claim(tmp_path).state == "continue"
    assert not (tmp_path / "videos" / "a.txt").exists() and (tmp_path / "videos" / "b.txt").exists()


def test_an_input_that_is_not_whole_names_what_it_lacks_and_what_to_run(tmp_path):
    make_complete(tmp_path)
    for name in "ab":
        (tmp_path / "videos" / f"{name}.txt").unlink()
    with pytest.raises(LedgerError, match="is not whole: videos/a.txt and 1 more are missing .*; cut again"):
        check_whole(tmp_path, "cut again")


# what is never deleted


@pytest.mark.parametrize(
    "output, complaint",
    [("in", "in is also what this run reads"), ("in/deep", "lie in one another"), (".", "lie in one another")],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_an_input_or_beside_it_in_one_folder_is_refused(tmp_path, output, complaint, overwrite):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "kept").write_text("kept")
    with pytest.raises(LedgerError, match=f"{complaint}.*choose another output folder"):
        claim(tmp_path / output, overwrite=overwrite, reads=[tmp_path / "in"])
    assert (tmp_path / "in" / "kept").exists() and not (tmp_path / "in" / "deep").exists()


def test_a_file_that_is_read_is_not_emptied_away_and_may_lie_beside_the_output(tmp_path):
    (tmp_path / "rows.json").write_text("[]")
    assert claim(tmp_path / "out", reads=[tmp_path / "rows.json"]).state == "new"
    with pytest.raises(LedgerError, match="lie in one another"):
        claim(tmp_path, overwrite=True, reads=[tmp_path / "rows.json"])


def test_a_link_to_an_input_is_the_input(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "in")
    with pytest.raises(LedgerError, match="also what this run reads"):
        claim(tmp_path / "out", overwrite=True, reads=[tmp_path / "in"])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("plan", [{"tool": "train"}, {"stage": "segments"}])
def test_the_output_of_another_tool_is_never_emptied(tmp_path, overwrite, plan):
    make_complete(tmp_path, plan)
    with pytest.raises(LedgerError, match=r"the output of another tool \((train|segments), this is cut\); choose"):
        claim(tmp_path, overwrite=overwrite)
    assert (tmp_path / "videos" / "a.txt").exists()


# damaged papers


@pytest.mark.parametrize("text, complaint", [("", "not JSON"), ("[1]", "holds .1., not an object"), ("{}", "no plan")])
def test_a_damaged_manifest_is_one_line_and_overwrite_replaces_it(tmp_path, text, complaint):
    make_complete(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LedgerError, match=rf"manifest.json is .*{complaint}.*--overwrite-output"):
        claim(tmp_path)
    assert claim(tmp_path, overwrite=True).state == "new"


def test_a_plan_that_is_no_object_is_one_line_and_overwrite_replaces_it(tmp_path):
    make_complete(tmp_path)
    (tmp_path / "plan.json").write_text("[1]")
    with pytest.raises(LedgerError, match=r"plan.json is damaged: it holds \[1\], not an object.*--overwrite-output"):
        claim(tmp_path)
    assert claim(tmp_path, overwrite=True).state == "new"


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"id": "a"}'])
def test_a_damaged_ledger_names_the_line(tmp_path, line):
    good = '{"id": "a", "stage": "read", "reason": "broken", "values": {}}'
    (tmp_path / "skipped.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(LedgerError, match="skipped.jsonl, line 2 is no line of a ledger"):
        read_ledger(tmp_path / "skipped.jsonl")
