"""`{split}-000000.tar`, ...: WebDataset shards with the videos inside, two members a row.

    000000017-clip_seg_00.mp4     the video's own bytes
    000000017-clip_seg_00.json    id, group, split, conversations, targets, observed, future_pose, ...

WebDataset takes what stands before the first dot of a name as the row's key, so keys hold none.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

from data_prep.export.job import ExportFormat, ExportJob
from data_prep.export.rows import Record, iter_samples
from data_prep.export.shards import count_shards, iter_shards
from data_prep.training_format import TRUTH_COLUMNS
from driving.records import WEIGHT_KEY
from driving.whole_files import dump_json, write_atomically


def write(job: ExportJob) -> list[str]:
    """The shards that are not there yet, one after the other."""
    names = []
    for split, num_rows in job.rows.splits.items():
        names += [shard_name(split, number) for number in range(count_shards(num_rows, job.shard_rows))]
        for number, shard in iter_shards(iter_samples(job.rows, split), job.shard_rows):
            path = job.output_dir / shard_name(split, number)
            if not path.is_file():
                _write_shard(job, path, number * job.shard_rows, shard)
            job.on_rows(len(shard))
    return names


def shard_name(split: str, number: int) -> str:
    """train-000012.tar."""
    return f"{split}-{number:06d}.tar"


def format_key(number: int, sample_id: str) -> str:
    """A row's key: its number in the split, so that keys are unique and in order, and its id without dots."""
    from data_prep.sources.names import make_id  # its package opens videos, and help must answer at once

    return f"{number:09d}-{make_id(sample_id).replace('.', '_')}"


def _write_shard(job: ExportJob, path: Path, first: int, shard: list[tuple[Record, Record]]) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        write_atomically(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for number, (record, truth) in enumerate(shard, first):
            video = job.media.find(record, Path(scratch))
            key = format_key(number, record["id"])
            known = {name: truth[name] for name in ("split", *TRUTH_COLUMNS) if truth.get(name) is not None}
            told = ("id", "group", "conversations", WEIGHT_KEY)
            facts = {name: record[name] for name in told if name in record} | known
            with video.open("rb") as data:
                _add(tar, f"{key}{video.suffix.lower()}", data, video.stat().st_size)
            if video.parent == Path(scratch):
                video.unlink()
            text = dump_json(facts).encode()
            _add(tar, f"{key}.json", io.BytesIO(text), len(text))


def _add(tar: tarfile.TarFile, name: str, data: io.BufferedIOBase, size: int) -> None:
    # TarInfo's own defaults hold no clock, no user and no machine.
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, data)


FORMAT = ExportFormat(
    '`webdataset.WebDataset("train-{000000..000012}.tar").decode()` gives rows with `mp4` (bytes) and `json` '
    "(conversations, targets, observed, future_pose).",
    write,
)
