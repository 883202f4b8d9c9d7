"""The Hugging Face dataset -> the JSON that upstream's trainer and its peers read, and the truth that scoring reads.

    qwen_video_dataset/{train,val,test} ──▶ {train,val,test}.json   one record a line
                                        ──▶ truth.parquet           numbers by id, all splits
                                        ──▶ dataset.json            copied
                                        ──▶ README.md               the data card

Everything is streamed: no split is ever in memory. Segments that are part of a longer video (`--cut index`, `scaled`)
go to `{train,val,test}.index.json`, since other readers ignore `video_start`, `video_end` and `member`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from data_prep.arrow_dataset import count_rows, decode_messages, iter_split, read_columns, read_split_names
from data_prep.balance import AXES, BALANCE_NAME, NONE, plan_balance
from data_prep.data_card import CARD_NAME, write_card
from driving.errors import DrivingError
from driving.ledger import MANIFEST_NAME, PAPERS, check_whole, claim_output, read_manifest
from driving.lineage import write_commands
from driving.option_values import number
from driving.options import format_command, option, parse_options
from driving.records import WEIGHT_KEY, check_record, conversations_from_messages
from driving.whole_files import dump_json, write_atomically, write_json

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 3  # part of the plan: raise it when the same input gives other bytes
BATCH_ROWS = 1_000
TRUTH_NAME = "truth.parquet"
DATASET_NAME = "dataset.json"
TRAIN = "train"
INDEX_KEYS = ("video_start", "video_end", "member", "frame_indices")
TRUTH_COLUMNS = (
    "clip_uuid", "start_second", "targets", "observed", "future_pose", "source", "country", "hour", "platform",
    "camera",
)  # fmt: skip
PURPOSE = (
    "One second of front video in, the motion of the next second out, as (velocity, curvature) pairs. "
    "`{train,val,test}.json` hold the conversations, `truth.parquet` the numbers by id."
)


@dataclass(frozen=True)
class ConvertOptions:
    """Write a driving dataset as training JSON (conversations), with the numeric truth beside it.

    Reads qwen_video_dataset/, writes {train,val,test}.json, truth.parquet and dataset.json.
    Running twice is safe: complete files are left untouched, half-written ones are written again.
    """

    dataset_dir: Path = option(Path("qwen_video_dataset"), help="dataset made by prepare_huggingface_dataset.py")
    output_dir: Path = option(Path("qwen_video_dataset_training"), help="where the training files are written")
    system: bool = option(True, help="keep the system turn; --no-system puts its text in front of the question")
    balance: str = option(
        NONE, choices=(NONE, *AXES),
        help="weigh training rows so that rare turns, or rare speeds, are used more often in an epoch",
    )  # fmt: skip
    max_weight: float = option(4.0, parse=number(1), help="with --balance, how often a row is used in an epoch at most")
    overwrite_output: bool = option(False, help="delete what is in the output folder first")


def main(argv: Sequence[str] | None = None) -> int:
    """The door's body: options in, exit code out."""
    print(run(parse_options(ConvertOptions, argv))["message"])
    return 0


def run(options: ConvertOptions) -> dict[str, Any]:
    """Convert the dataset, or find it converted.

    Returns:
        {"message": last line of output, "splits": rows of each}.

    Raises:
        DrivingError: The dataset is missing or not finished; see claim_output.
    """
    plan = plan_output(options)
    reads = [options.dataset_dir]
    with claim_output(options.output_dir, plan, overwrite=options.overwrite_output, reads=reads) as output:
        if output.is_complete:
            summary = output.manifest["summary"]
            return {**summary, "message": f"{options.output_dir} is already complete: {_format_counts(summary)}"}
        summary = write_training_files(options, output.plan)
        command = format_command("convert_to_training_format.py", options, ("overwrite_output",))
        write_commands(options.output_dir, options.dataset_dir, command)
        names = [path.name for path in options.output_dir.glob("*.json")]
        output.finish(summary, sorted({*names, TRUTH_NAME, CARD_NAME} - {*PAPERS}))
    return {**summary, "message": f"{_format_counts(summary)} written to {options.output_dir}"}


def plan_output(options: ConvertOptions) -> dict[str, Any]:
    """What decides the output's bytes: the dataset by its manifest, and the options.

    Raises:
        DrivingError: There is no finished dataset.
    """
    manifest = options.dataset_dir / MANIFEST_NAME
    if not options.dataset_dir.is_dir():
        raise DrivingError(f"there is no dataset at {options.dataset_dir}; run prepare_huggingface_dataset.py")
    if not manifest.is_file() or not (options.dataset_dir / DATASET_NAME).is_file():
        raise DrivingError(
            f"the dataset in {options.dataset_dir} is not finished ({MANIFEST_NAME} is missing); "
            "run prepare_huggingface_dataset.py again"
        )
    check_whole(options.dataset_dir, "run prepare_huggingface_dataset.py again")
    return {
        "tool": "convert_to_training_format",
        "format_version": FORMAT_VERSION,
        "dataset_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "system": options.system,
        # Left out where there is none: files from before there was the choice are the same files.
        **({"balance": options.balance, "max_weight": options.max_weight} if options.balance != NONE else {}),
    }


def write_training_files(options: ConvertOptions, plan: dict[str, Any]) -> dict[str, Any]:
    """Write the JSON of every split, the truth, then dataset.json and the data card."""
    from tqdm import tqdm

    splits = {name: options.dataset_dir / name for name in read_split_names(options.dataset_dir)}
    facts = json.loads((options.dataset_dir / DATASET_NAME).read_text(encoding="utf-8"))
    truth_path, length = options.output_dir / TRUTH_NAME, (facts["duration_s"], facts["num_frames"])
    counts = {}
    with (
        open_truth(truth_path, length) as truth,
        tqdm(total=sum(map(count_rows, splits.values())), unit=" rows", desc="convert", disable=None) as progress,
    ):
        for name, split in splits.items():
            path = options.output_dir / f"{name}{'.index' if points_into_recordings(split) else ''}.json"
            weights = plan_weights(options, split) if name == TRAIN and options.balance != NONE else None
            tables = _noting(iter_split(split, BATCH_ROWS), lambda table, name=name: truth.add(table, name))
            counts[name] = write_records(path, _iter_records(tables, options.system, progress.update, weights))
        if not sum(counts.values()):
            raise DrivingError(f"the dataset for {truth_path} holds no row")
    with (
        (options.dataset_dir / DATASET_NAME).open("rb") as source,
        write_atomically(options.output_dir / DATASET_NAME) as target,
    ):
        shutil.copyfileobj(source, target)
    plans = {
        "prepare_video_segments.py": facts.get("provenance", {}).get("segments_plan", {}),
        "prepare_huggingface_dataset.py": read_manifest(options.dataset_dir)["plan"],
        "convert_to_training_format.py": plan,
    }
    write_card(options.output_dir, "Driving conversations", PURPOSE, facts, plans)
    return {"splits": counts}


def write_records(path: Path, records: Iterator[dict[str, Any]]) -> int:
    """Write a JSON list, one record a line, while the records arrive; returns how many there were."""
    count = 0
    with write_atomically(path, "w") as handle:
        handle.write("[\n")
        for record in records:
            handle.write((",\n" if count else "") + dump_json(record))
            count += 1
        handle.write("\n]\n")
    return count


def points_into_recordings(split: Path) -> bool:
    """Whether the rows of a split are parts of longer videos (`--cut index`, `scaled`), by its first row."""
    if INDEX_KEYS[0] not in read_columns(split):
        return False
    first = next(iter_split(split, 1, INDEX_KEYS[:1]), None)
    return first is not None and first[INDEX_KEYS[0]][0].is_valid


def plan_weights(options: ConvertOptions, split: Path) -> np.ndarray:
    """(rows,) how often each training row is used in an epoch; says so on the screen and in balance.json."""
    balance = plan_balance(split, options.balance, options.max_weight)
    write_json(options.output_dir / BALANCE_NAME, balance.to_json())
    print(balance.describe(), flush=True)
    return balance.row_weights()


def _noting(tables: Iterable[pa.Table], note: Callable[[pa.Table], None]) -> Iterator[pa.Table]:
    for table in tables:
        note(table)
        yield table


def _iter_records(
    tables: Iterable[pa.Table], keep_system: bool, on_rows: Callable[[int], object], weights: np.ndarray | None
) -> Iterator[dict[str, Any]]:
    start = 0
    for table in tables:
        columns = ["segment_uuid", "group", "messages", *(key for key in INDEX_KEYS if key in table.column_names)]
        lists = [table[name].to_pylist() for name in columns]
        for place, values in enumerate(zip(*lists, strict=True), start):
            row = dict(zip(columns, values, strict=True))
            row["messages"] = decode_messages(row["messages"])
            record = format_record(row, keep_system=keep_system)
            yield record if weights is None else {**record, WEIGHT_KEY: float(weights[place])}
        start += table.num_rows
        on_rows(table.num_rows)


def format_record(row: dict[str, Any], *, keep_system: bool) -> dict[str, Any]:
    """One row of the dataset -> one training record, checked.

    Raises:
        RecordError: The row's messages do not make a conversation.
    """
    record = {"id": row["segment_uuid"], "group": row["group"]}
    record |= conversations_from_messages(row["messages"], keep_system=keep_system)
    record |= {key: row[key] for key in INDEX_KEYS if row.get(key) not in (None, "")}
    check_record(record)
    return record


class TruthWriter:
    """truth.parquet while it is written, one row an id, all splits in one file.

    Columns: id, split, group, targets (T, 2), observed (T, 2), future_pose (n, 3), the times of targets and poses in
    seconds after the start of the answered window, mean target speed, and what is known of the recording.
    """

    def __init__(self, handle: IO[bytes], length: tuple[float, int]) -> None:
        self._handle, self._length, self._writer = handle, length, None

    def add(self, table: pa.Table, split: str) -> None:
        """Add a piece of a split."""
        import pyarrow.parquet as pq

        truth = build_truth(table, split, self._length)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._handle, truth.schema, compression="zstd")
        self._writer.write_table(truth)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def open_truth(path: Path, length: tuple[float, int]) -> Iterator[TruthWriter]:
    """Write the numbers that scoring reads.

    Args:
        length: of an answered window, seconds and samples.
    """
    with write_atomically(path) as handle, contextlib.closing(TruthWriter(handle, length)) as writer:
        yield writer


def build_truth(table: pa.Table, split: str, length: tuple[float, int]) -> pa.Table:
    """One piece of a split -> its rows of truth.parquet."""
    import pyarrow as pa
    import pyarrow.compute as pc

    targets = table["targets"].to_pylist()
    num_poses = pc.list_value_length(table["future_pose"]).to_pylist()
    numbers, lists = pa.float64(), pa.list_(pa.float64())
    columns = {
        "id": table["segment_uuid"],
        "split": pa.array([split] * table.num_rows, pa.string()),
        "group": table["group"],
        **{name: table[name] for name in TRUTH_COLUMNS if name in table.column_names},
        "target_times_s": pa.array([_times(len(pairs), 0.5, length) for pairs in targets], lists),
        "future_times_s": pa.array([_times(num, 0.0, length) for num in num_poses], lists),
        "speed_mps": pa.array([sum(abs(v) for v, _ in pairs) / len(pairs) for pairs in targets], numbers),
    }
    return pa.table(columns).replace_schema_metadata(None)


def _times(num: int, offset: float, length: tuple[float, int]) -> list[float]:
    duration_s, num_samples = length
    return [(index + offset) * duration_s / num_samples for index in range(num)]


def _format_counts(summary: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in summary["splits"].items()) + " records"
