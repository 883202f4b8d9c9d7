"""The commands that made a folder are handed on from stage to stage."""

from __future__ import annotations

from driving.lineage import read_commands, write_commands


def test_a_stage_adds_its_command_to_those_of_its_input(tmp_path):
    for name in ("raw", "segments", "dataset"):
        (tmp_path / name).mkdir()
    write_commands(tmp_path / "segments", tmp_path / "raw", "cut")
    write_commands(tmp_path / "dataset", tmp_path / "segments", "split")
    assert read_commands(tmp_path / "dataset") == ["cut", "split"]


def test_a_folder_that_does_not_say_has_no_commands(tmp_path):
    assert read_commands(tmp_path) == []
    assert read_commands(tmp_path / "nowhere") == []


def test_a_strangers_commands_file_is_not_believed(tmp_path):
    for text in ("{", '{"a": 1}', "[1, 2]"):
        (tmp_path / "commands.json").write_text(text)
        assert read_commands(tmp_path) == []
