"""The door: two files in, a table and a file out, and controls that cannot see."""

from __future__ import annotations

import json
import sys

import pytest

from driving.errors import RecordError, run_main
from evaluation.text.controls import choose_constants, swap_answers
from evaluation.text.score_text import ScoreTextOptions, main, run, score_rows
from evaluation.text.task_scores import build_task


@pytest.fixture()
def qa_files(write_lines):
    truths = [
        {"id": f"q{i}", "group": f"s{i // 3}", "type": "exist", "text": "yes" if i % 3 else "no"} for i in range(18)
    ]
    said = [{"id": one["id"], "text": one["text"]} for one in truths[:-2]]
    said[0]["text"] = "<img src=x onerror=alert(1)>\x1b[31m"
    return write_lines("said.jsonl", *said), write_lines("true.jsonl", *truths)


def test_a_table_on_screen_and_a_file_beside_the_answers(qa_files, capsys):
    assert main([*map(str, qa_files), "--task", "qa"]) == 0
    shown = capsys.readouterr().out
    scores = json.loads((qa_files[0].parent / "said.scores.json").read_text())
    assert scores["scores"]["exact"]["value"] == pytest.approx(15 / 18)
    assert "exact" in shown and "0.833" in shown and "swapped" in shown and "best_constant" in shown
    assert shown.endswith(
        f"18 answers of 6 groups, 0 empty, 2 missing, 0 oversized; {qa_files[0].parent / 'said.scores.json'}\n"
    )
    assert scores["controls"]["best_constant"]["scores"]["exact"]["value"] == pytest.approx(12 / 18)


def test_the_same_files_give_the_same_bytes(qa_files, tmp_path):
    for name in ("a.json", "b.json"):
        run(ScoreTextOptions(*qa_files, "qa", out=tmp_path / name))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_html_and_terminal_codes_of_an_answer_stay_text(qa_files, capsys):
    main([*map(str, qa_files), "--task", "qa"])
    scores = json.loads((qa_files[0].parent / "said.scores.json").read_text())
    assert scores["examples"][0]["text"] == "<img src=x onerror=alert(1)>\x1b[31m"
    assert "\x1b" not in capsys.readouterr().out


def test_a_type_that_colours_the_terminal_is_shown_without_its_codes(write_lines, capsys):
    truths = [{"id": str(i), "group": str(i), "type": f"\x1b[31m{i % 2}", "text": "yes"} for i in range(4)]
    main([str(write_lines("p.jsonl")), str(write_lines("r.jsonl", *truths)), "--task", "yesno"])
    shown = capsys.readouterr().out
    assert "type ?[31m0" in shown and "\x1b" not in shown


def test_what_a_user_can_mend_is_one_line(qa_files, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["score_text.py", str(qa_files[0]), str(qa_files[1]), "--task", "json"])
    assert run_main(main) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the reference of id 'q0' has no object") and error.count("\n") == 1


def test_the_scores_never_go_over_what_they_are_made_from(qa_files):
    with pytest.raises(RecordError, match="true.jsonl is also what this run reads; choose another --out"):
        run(ScoreTextOptions(*qa_files, "qa", out=qa_files[1]))


def test_a_task_that_is_none_is_a_usage_mistake(qa_files, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, qa_files), "--task", "poem"])
    assert stop.value.code == 2 and "invalid choice: 'poem'" in capsys.readouterr().err


def test_a_swapped_answer_comes_from_another_group_and_the_same_type(make_row):
    rows = [make_row(f"{i}", f"answer of {i // 2}", group=str(i // 2), type="ab"[i % 2]) for i in range(10)]
    dealt, is_swapped = swap_answers(rows)
    assert is_swapped.all()
    assert all(row.text != other.text for row, other in zip(rows, dealt, strict=True))
    assert sorted(row.text for row in dealt) == sorted(row.text for row in rows)


def test_where_one_group_is_most_of_a_type_some_rows_have_nobody_to_change_with(make_row):
    rows = [make_row(f"{i}", str(i), group="big" if i < 3 else "small") for i in range(4)]
    dealt, is_swapped = swap_answers(rows)
    assert is_swapped.sum() == 2
    assert [row.text for row, swapped in zip(dealt, is_swapped) if not swapped] == [
        row.text for row, swapped in zip(rows, is_swapped) if not swapped
    ]


def test_one_group_alone_has_no_swapped_control(make_row):
    rows = [make_row(f"a{i}", "yes", text="yes") for i in range(3)]
    assert "swapped" not in score_rows(rows, build_task("yesno", rows), num_resamples=10)["controls"]


def test_the_constant_of_a_type_is_its_commonest_reference_and_the_first_of_equals(make_row):
    rows = [make_row(f"{i}", "", type=kind) for i, kind in enumerate("aaabb")]
    assert choose_constants(rows, ["x", "y", "y", "q", "p"]) == {"a": "y", "b": "p"}


def test_a_model_that_sees_beats_its_own_answers_dealt_to_other_clips(make_row):
    texts = ["a bus waits at the light", "two cars turn left", "a truck passes in the rain", "nobody is on the road"]
    rows = [make_row(f"{i}", texts[i % 4], text=texts[i % 4], group=str(i)) for i in range(16)]
    scores = score_rows(rows, build_task("caption", rows), num_resamples=200)
    gain = scores["controls"]["swapped"]["gain"]["rouge_l"]
    assert scores["scores"]["rouge_l"]["value"] == 1 and gain["low"] > 0.3


def test_a_model_that_says_one_thing_gains_nothing_over_its_swapped_answers(make_row):
    rows = [make_row(f"{i}", "a car on a road", text=f"a car on road {i}", group=str(i)) for i in range(12)]
    gain = score_rows(rows, build_task("caption", rows), num_resamples=200)["controls"]["swapped"]["gain"]
    assert (gain["bleu_2"]["value"], gain["bleu_2"]["low"], gain["bleu_2"]["high"]) == (0, 0, 0)


def test_intervals_are_over_groups_not_rows(make_row):
    rows = [make_row(f"{i}", "yes", text="yes" if i < 20 else "no", group="ab"[i >= 20]) for i in range(40)]
    found = score_rows(rows, build_task("yesno", rows), num_resamples=500)["scores"]["accuracy"]
    assert (found["low"], found["high"], found["num_clips"]) == (0, 1, 2)


def test_ordered_fields_and_a_schema_reach_the_scores(write_lines, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"properties": {"risk": {"enum": ["low", "high"]}}, "required": ["risk"]}))
    truths = [{"id": f"{i}", "group": f"{i}", "fields": {"risk": "high" if i % 2 else "low"}} for i in range(6)]
    said = [{"id": f"{i}", "text": '{"risk": "low"}'} for i in range(6)]
    options = ScoreTextOptions(
        write_lines("p.jsonl", *said), write_lines("r.jsonl", *truths), "json", schema=schema,
        ordered=("risk=low,high",), bootstrap=50,
    )  # fmt: skip
    scores = run(options)["scores"]
    assert scores["valid_bare"]["value"] == 1
    assert scores["field/risk/missed_highest"]["value"] == 1
    assert scores["field/risk/kappa"]["value"] == 0


def test_captions_need_their_libraries_and_say_how_to_get_them(make_row, monkeypatch):
    from driving.errors import DrivingError

    rows = [make_row("a", "a bus", text="a bus")]
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(
        DrivingError, match="captions are scored with sacrebleu and rouge-score; run uv sync --inexact --extra text"
    ):
        build_task("caption", rows).score(rows)


def test_a_schema_needs_its_library_and_says_how_to_get_it(tmp_path, monkeypatch):
    from driving.errors import DrivingError
    from evaluation.text.schema import read_schema

    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(DrivingError, match="--schema needs jsonschema; run uv sync --inexact --extra text"):
        read_schema(tmp_path / "schema.json")
