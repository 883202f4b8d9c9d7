"""Rows of text, made in a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.text.rows import TextRow


@pytest.fixture()
def make_row():
    """(id, answer, **reference) -> a row; the group is the id's first letter."""

    def make(name: str, answer: str, /, **reference) -> TextRow:
        return TextRow(name, reference.pop("group", name[0]), answer, reference, "answered" if answer else "empty")

    return make


@pytest.fixture()
def write_lines(tmp_path: Path):
    """(file name, objects or texts) -> path of a file of lines."""

    def write(name: str, *lines) -> Path:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path = tmp_path / name
        path.write_bytes("".join(text + "\n" for text in texts).encode("utf-8", "surrogatepass"))
        return path

    return write


@pytest.fixture()
def value_of():
    """A measure -> its value over all rows, as the bootstrap computes it."""
    from evaluation.scoring.statistics import Bootstrap

    def value(measure) -> float | None:
        rows = [str(index) for index in range(len(measure.columns[0]))]
        return Bootstrap(rows, 0).estimate(measure.combine, *measure.columns).value

    return value
