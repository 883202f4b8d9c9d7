"""The one interface that every format stands behind, and what a JSON format needs more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.export.media import Media
from data_prep.export.rows import Record, Rows
from data_prep.training_format import INDEX_KEYS
from driving.records import conversations_from_messages, messages_from_record
from driving.whole_files import dump_json, write_atomically


@dataclass(frozen=True)
class ExportJob:
    """One export to write.

    Attributes:
        output_dir: claimed; whole files in it are of this very job and need not be written again.
        shard_rows: rows of one shard, for formats that have shards.
        on_rows: is told how many rows were done.
    """

    rows: Rows
    media: Media
    output_dir: Path
    shard_rows: int
    on_rows: Callable[[int], Any]


@dataclass(frozen=True)
class ExportFormat:
    """One format.

    Attributes:
        usage: how the export is read, in Markdown, for the card.
        write: writes everything but card and manifest, and returns the names of what it wrote. Files appear whole.
    """

    usage: str
    write: Callable[[ExportJob], list[str]]


def iter_placed(job: ExportJob, split: str) -> Iterator[tuple[Record, str]]:
    """The records of a split, each with its video's path as the export shall name it."""
    for record in job.rows.iter_records(split):
        plain = {name: value for name, value in record.items() if name not in INDEX_KEYS}
        yield plain, job.media.place(record, split)
        job.on_rows(1)


def fold_system(record: Record) -> Record:
    """A record whose system text stands in front of its first question."""
    if record["conversations"][0]["from"] != "system":
        return record
    folded = conversations_from_messages(messages_from_record(record), keep_system=False)
    return {**record, "conversations": folded["conversations"]}


def write_list(path: Path, values: Iterable[Any]) -> None:
    """A JSON list, one value a line, while the values arrive."""
    with write_atomically(path, "w") as file:
        separator = "[\n"
        for value in values:
            file.write(separator + dump_json(value))
            separator = ",\n"
        file.write("\n]\n" if separator != "[\n" else "[]\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """JSON Lines, while the values arrive."""
    with write_atomically(path, "w") as file:
        for value in values:
            file.write(dump_json(value) + "\n")
