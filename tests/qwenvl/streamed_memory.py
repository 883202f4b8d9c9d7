"""`python streamed_memory.py JSON MODEL STREAMED`: read a run's rows, print what that took. Not a test itself.

In bytes: the peak of Python's own memory (tracemalloc), and how much larger the process has become.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

from qwenvl.data import parse_dataset_use
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.data.rows import load_rows
from qwenvl.data.stream import StreamDataset, StreamOrder, load_stream
from qwenvl.train.loading import load_processor
from qwenvl.train.stream_loader import SampleStream, StreamBatches, StreamLoader

NUM_BATCHES = 100


def read_resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(path: str, model: str, is_streamed: str) -> None:
    processor = load_processor(model)
    uses = parse_dataset_use(path)
    before = read_resident_bytes()
    tracemalloc.start()
    if is_streamed == "True":
        rows = load_stream(uses)
        dataset = StreamDataset(rows, processor, Preprocessing(), 4096)
        batches = StreamBatches(StreamOrder(rows.shard_rows, 1), 2)
        loader = StreamLoader(SampleStream(dataset, batches), collate_fn=list)
        num_samples = sum(len(batch) for _, batch in zip(range(NUM_BATCHES), loader, strict=False))
        assert num_samples == 2 * NUM_BATCHES and sum(1 for _ in rows.groups) == len(rows.records) // 10
    else:
        rows = load_rows(uses, 1)
    print(json.dumps({"peak": tracemalloc.get_traced_memory()[1], "resident": read_resident_bytes() - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])
