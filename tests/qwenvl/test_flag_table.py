"""The table of FINETUNE.md against the dataclasses and the launchers: each flag, each variable, each default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from flag_names import list_all_flags, list_own_flags  # noqa: E402

pytestmark = pytest.mark.needs_torch
ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = "".join((ROOT / name).read_text() for name in ("train_physical_ai_lora.sh", "train_physical_ai.sh"))
LAUNCHERS += (ROOT / "scripts/launch.sh").read_text()


def read_table() -> list[tuple[str, str, str]]:
    """(variables and flags, defaults, meaning) of each row."""
    lines = (ROOT / "FINETUNE.md").read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| variable, flag |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 3, line
        rows.append(tuple(cells))
    return rows


TABLE = read_table()
PAIRS = [pair for names, _, _ in TABLE for pair in re.findall(r"`([A-Z][A-Z_]+)` `--([a-z_0-9]+)`", names)]


def flags_in(text: str) -> list[str]:
    return re.findall(r"`--([a-z_0-9]+)`", text)


def test_every_flag_of_ours_is_in_the_table_once():
    named = [flag for names, _, _ in TABLE for flag in flags_in(names)]
    assert len(named) == len(set(named))
    assert sorted(set(list_own_flags()) - set(named)) == []


def test_every_flag_in_the_table_can_be_typed():
    known = set(list_all_flags()) | {"gradient_checkpointing"}  # which the newest transformers calls otherwise
    named = [flag for row in TABLE for cell in row for flag in re.findall(r"--([a-z_0-9]+)", cell)]
    assert [flag for flag in named if flag not in known | {"warmup_ratio"}] == []


@pytest.mark.parametrize(("variable", "flag"), PAIRS)
def test_a_variable_is_handed_to_the_flag_beside_it(variable, flag):
    """`--flag "${VARIABLE:-default}"` in a recipe, or `--flag "$VARIABLE"` in what they share."""
    if variable == "DRY_RUN":
        assert "${DRY_RUN:-}" in LAUNCHERS and "--dry_run True" in LAUNCHERS
    else:
        assert re.search(rf'--{flag} "\$\{{?{variable}(:-|\}}|")', LAUNCHERS)


@pytest.mark.parametrize(("names", "defaults"), [row[:2] for row in TABLE if not re.search(r"`[A-Z]", row[0])])
def test_the_default_of_a_flag_without_variable_is_the_programs(names, defaults):
    flags = flags_in(names)
    if flags == ["lora_enable"]:  # the recipes differ in it
        assert defaults == "True / False" and LAUNCHERS.count("--lora_enable True") == 1
        return
    shown = [cell.strip() for cell in defaults.split(",")] if defaults else [""] * len(flags)
    program = list_all_flags()
    assert shown == ["" if program[flag] is None else str(program[flag]) for flag in flags]


def test_every_row_says_what_it_does():
    assert [names for names, _, meaning in TABLE if len(meaning.split()) < 3] == []
