"""`{split}.parquet` with a column of chat messages, for TRL and whatever else reads Hugging Face datasets.

A block of `content` is stored as JSON with its type in the file's own schema: as an Arrow struct every block would
come back with every key, and a chat template would take the question for a second video.
"""

from __future__ import annotations

from itertools import islice

from data_prep.arrow_dataset import encode_messages
from data_prep.export.job import ExportFormat, ExportJob, iter_placed
from data_prep.training_format import BATCH_ROWS
from driving.records import messages_from_record
from driving.whole_files import write_atomically


def write(job: ExportJob) -> list[str]:
    """One parquet a split: id, group, messages."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Json, List, Value

    text = Value("string")
    features = Features({"id": text, "group": text, "messages": List({"role": text, "content": List(Json())})})
    schema = features.arrow_schema
    for split in job.rows.splits:
        placed = iter_placed(job, split)
        with (
            write_atomically(job.output_dir / f"{split}.parquet") as file,
            pq.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            while batch := list(islice(placed, BATCH_ROWS)):
                records = [{**record, "video": video} for record, video in batch]
                columns = [
                    pa.array([record["id"] for record in records], pa.string()),
                    pa.array([record["group"] for record in records], pa.string()),
                    encode_messages([messages_from_record(record) for record in records], features),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return [f"{split}.parquet" for split in job.rows.splits]


FORMAT = ExportFormat(
    '`load_dataset("parquet", data_files="train.parquet")` (datasets 4.7 or newer) gives `messages` for '
    "`trl.SFTTrainer`. TRL 1.16 takes rows without a column `images` for text and trains on the text alone: add one "
    "of empty lists, and its `DataCollatorForVisionLanguageModeling` opens the `video` blocks.",
    write,
)
