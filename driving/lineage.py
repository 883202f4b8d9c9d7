"""The commands that made a folder, from the raw recordings on, so that a report can say how its data came to be.

    recordings/commands.json ──▶ segments/commands.json ──▶ dataset/commands.json ──▶ training/commands.json
    [draw]                       [draw, cut]                [draw, cut, split]        [draw, cut, split, convert]

The file stands beside a folder's manifest and is not in it: paths differ between machines, the other bytes must not.
"""

from __future__ import annotations

import json
from pathlib import Path

from driving.ledger import COMMANDS_NAME
from driving.whole_files import write_json


def read_commands(folder: Path) -> list[str]:
    """The commands behind a folder, oldest first; [] where it does not say, as with recordings that were downloaded."""
    try:
        found = json.loads((folder / COMMANDS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and all(isinstance(line, str) for line in found) else []


def write_commands(folder: Path, source: Path | None, command: str) -> None:
    """Note in a folder what made it: the commands behind `source`, then this one."""
    write_json(folder / COMMANDS_NAME, [*(read_commands(source) if source is not None else []), command])
