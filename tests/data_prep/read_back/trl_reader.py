"""TRL on an export of its form, in an environment of its own: EXPORT MODEL -> JSON. Not a test itself."""

import json
import os
import sys

from datasets import load_dataset
from telling import tell_sample
from transformers import AutoProcessor
from transformers.video_utils import load_video
from trl.data_utils import is_conversational
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling


def fetch_videos(videos, sample_indices_fn=None):
    """As transformers' own, which insists on torchcodec and so on the system's FFmpeg; its PyAV reader does it, too."""
    if isinstance(videos, list):
        return list(zip(*[fetch_videos(video, sample_indices_fn) for video in videos], strict=True))
    return load_video(videos, backend="pyav", sample_indices_fn=sample_indices_fn)


export, model = sys.argv[1:]
os.chdir(export)  # the paths of the videos start here
processor = AutoProcessor.from_pretrained(model)
processor.video_processor.fetch_videos = fetch_videos
collate = DataCollatorForVisionLanguageModeling(processor)
seen = {}
for split in ("train", "val", "test"):
    seen[split] = []
    for row in load_dataset("parquet", data_files=f"{split}.parquet", split="train"):
        assert is_conversational(row)
        # It asks for a column of pictures, for without one TRL takes rows for text; the video is opened from its block.
        batch = collate([{"messages": row["messages"], "images": []}])
        seen[split].append(
            tell_sample(batch["input_ids"][0].tolist(), batch["labels"][0].tolist(), batch, processor.tokenizer)
        )
print(json.dumps(seen))
