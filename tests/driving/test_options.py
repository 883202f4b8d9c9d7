"""Command lines: every spelling, every kind of value, and the help."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from driving.options import build_parser, describe_options, format_command, option, parse_options


def parse_rate(text: str) -> float | str:
    return text if text == "auto" else float(text)


@dataclass(frozen=True)
class CutOptions:
    """Cut recordings.

    Reads a/, writes b/.
        Indented.
    """

    data_dir: Path = option(Path("data"), help="where the recordings are")
    window_s: float = option(1.0, unit="s", help="length of a clip")
    max_clips: int = option(0, help="stop after this many; 0 means all")
    keep: bool = option(False, help="keep what is there")
    system: bool = option(True, help="keep the system turn")
    sizes: tuple[int, ...] = option((1, 2), help="sizes in 100%")
    cut: str = option("resized", choices=("resized", "copy"), help="what to write")
    fps: float | str = option(30.0, parse=parse_rate, help="rate, or auto")
    cache: Path | None = option(None, help="cache folder")
    note: str = option("", help="a remark")


@dataclass(frozen=True)
class RequiredOptions:
    """Needs things."""

    model: Path = option(help="model folder")
    inputs: tuple[str, ...] = option((), positional=True, help="files")


@dataclass(frozen=True)
class PlaceOptions:
    """One place."""

    place: Path = option(Path("."), positional=True, help="folder")


def test_defaults_are_the_fields_own():
    assert parse_options(CutOptions, []) == CutOptions()


@pytest.mark.parametrize("flag", ["--window-s", "--window_s"])
def test_dashes_and_underscores_are_one_flag(flag):
    assert parse_options(CutOptions, [flag, "2.5"]).window_s == 2.5


def test_a_path_is_a_path():
    assert parse_options(CutOptions, ["--data-dir", "x/y"]).data_dir == Path("x/y")


def test_an_optional_path_is_a_path_when_given():
    assert parse_options(CutOptions, ["--cache", "c"]).cache == Path("c")


@pytest.mark.parametrize(
    "words, value",
    [
        (["--keep"], True),
        (["--keep", "True"], True),
        (["--keep=1"], True),
        (["--keep", "False"], False),
        (["--no-keep"], False),
        (["--no_keep"], False),
    ],
)
def test_every_spelling_of_a_bool(words, value):
    assert parse_options(CutOptions, words).keep is value


@pytest.mark.parametrize("words, value", [([], True), (["--no-system"], False), (["--system", "no"], False)])
def test_a_bool_that_is_true_by_default_can_be_taken_back(words, value):
    assert parse_options(CutOptions, words).system is value


def test_a_tuple_takes_several_values():
    assert parse_options(CutOptions, ["--sizes", "3", "4", "5"]).sizes == (3, 4, 5)


@pytest.mark.parametrize("text, value", [("auto", "auto"), ("29.97", 29.97)])
def test_a_parser_of_its_own_reads_what_a_type_cannot(text, value):
    assert parse_options(CutOptions, ["--fps", text]).fps == value


def test_an_empty_text_is_a_value():
    assert parse_options(CutOptions, ["--note", ""]).note == ""


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--cut", "raw"], "invalid choice: 'raw'"),
        (["--max-clips", "many"], "invalid int value: 'many'"),
        (["--keep", "perhaps"], "'perhaps' is neither True nor False"),
        (["--fps", "fast"], "invalid parse_rate value: 'fast'"),
        (["--window", "2"], "unrecognized arguments: --window"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_a_usage_mistake_is_exit_code_2_and_says_what(words, complaint, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_options(CutOptions, words)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_flag_without_default_is_required(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_options(RequiredOptions, [])
    assert caught.value.code == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize("words, inputs", [([], ()), (["a", "b"], ("a", "b"))])
def test_positional_values_are_gathered(words, inputs):
    assert parse_options(RequiredOptions, [*words, "--model", "m"]).inputs == inputs


@pytest.mark.parametrize("words, place", [([], Path(".")), (["x"], Path("x"))])
def test_one_positional_value_may_be_left_out(words, place):
    assert parse_options(PlaceOptions, words).place == place


def test_the_help_is_the_docstring_without_its_indent():
    assert "Cut recordings.\n\nReads a/, writes b/.\n    Indented.\n" in build_parser(CutOptions, "cut").format_help()


@pytest.mark.parametrize(
    "line",
    [
        "length of a clip [s] (default: 1.0)",
        "sizes in 100% (default: 1 2)",
        "keep what is there (default: False)",
        "where the recordings are (default: data)",
    ],
)
def test_the_help_shows_unit_and_default(line):
    assert line in " ".join(build_parser(CutOptions, "cut").format_help().split())


def test_an_empty_default_is_not_shown():
    assert "a remark\n" in build_parser(CutOptions, "cut").format_help()


@pytest.mark.parametrize(
    "options",
    [
        CutOptions(),
        CutOptions(window_s=2.5, keep=True, system=False, sizes=(3, 4), note=""),
        CutOptions(data_dir=Path("a b"), cache=Path("it's"), note="$HOME; rm *", max_clips=-1),
        CutOptions(note="--not-a-flag"),
    ],
)
def test_a_formatted_command_gives_the_same_options_again(options):
    words = shlex.split(format_command("cut.py", options))
    assert words[:4] == ["uv", "run", "python", "cut.py"]
    assert parse_options(CutOptions, words[4:]) == options


def test_a_formatted_command_names_what_differs_from_the_defaults_alone():
    assert format_command("cut.py", CutOptions(keep=True, max_clips=3), ("keep",)) == (
        "uv run python cut.py --max-clips 3"
    )


def test_a_formatted_command_gives_positional_values_first():
    command = format_command("x.py", RequiredOptions(inputs=("a", "b"), model="m"))
    assert command == "uv run python x.py a b --model m"


def test_described_options_are_plain_values():
    described = describe_options(CutOptions(cache=Path("c") / "d"))
    assert described["data_dir"] == "data" and described["cache"] == "c/d" and described["sizes"] == [1, 2]
    assert list(described) == [
        "data_dir", "window_s", "max_clips", "keep", "system", "sizes", "cut", "fps", "cache", "note",
    ]  # fmt: skip
