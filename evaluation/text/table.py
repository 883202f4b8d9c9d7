"""Scores as a table on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.text.task_scores import LOWER_IS_BETTER, NEITHER

_MAX_NAME = 44


def format_scores(scores: Mapping[str, Any]) -> str:
    """One row a score: value, 95 % interval, what each control gets, how far above the first; then one table a type."""
    controls = list(scores["controls"])
    head = ["score", "value", "95 % interval", "rows", *controls, f"over {controls[0]}" if controls else ""]
    body = []
    for name, one in scores["scores"].items():
        if one["value"] is None:
            continue  # nothing of the kind was said or true
        others = [_format_value(scores["controls"][control]["scores"].get(name)) for control in controls]
        gain = scores["controls"][controls[0]]["gain"].get(name) if controls and not _is_neither(name) else None
        body.append(
            [f"{clean(name)} {_arrow(name)}", _format_value(one), _format_interval(one), _count(one), *others]
            + [_format_interval(gain) if gain else ""]
        )
    lines = [*_align([head, *body])]
    for kind, part in scores["by_type"].items():
        rows = [
            [clean(name), _format_value(one), _format_interval(one), _count(one)]
            for name, one in part["scores"].items()
            if one["value"] is not None and "/" not in name
        ]
        lines += ["", *_align([[f"type {clean(kind)}", "value", "95 % interval", "rows"], *rows])]
    for control in controls:
        lines += ["", f"{control}: {scores['controls'][control]['description']}"]
    return "\n".join(lines)


def clean(text: str) -> str:
    """A text without what moves a terminal's cursor or colours it, and not too long for a table."""
    plain = "".join("?" if unicodedata.category(char).startswith("C") else char for char in text)
    return plain if len(plain) <= _MAX_NAME else plain[: _MAX_NAME - 3] + "..."


def _arrow(name: str) -> str:
    return "(lower is better)" if name.split("/")[-1] in LOWER_IS_BETTER else ""


def _is_neither(name: str) -> bool:
    return name.split("/")[-1] in NEITHER


def _format_value(one: Mapping[str, Any] | None) -> str:
    if one is None or one["value"] is None:
        return "-"
    return f"{one['value']:.3f}" if abs(one["value"]) < 100 else f"{one['value']:.1f}"


def _format_interval(one: Mapping[str, Any]) -> str:
    if one["low"] is None:
        return "one group" if one["num_clips"] < 2 and one["value"] is not None else "-"
    return f"{one['low']:.3f} to {one['high']:.3f}"


def _count(one: Mapping[str, Any]) -> str:
    return f"{one['num_rows']:,}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
