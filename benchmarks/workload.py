"""What the training benchmarks train on: a model with random weights, drawn clips, and a training JSON.

    sizes (JSON) ──write_model──▶ folder/model: random weights, tokenizer, chat template, processors
    frame sizes ──write_rows──▶ folder/videos/*.mp4, folder/train.json

Nothing is downloaded. The tokenizer is the small one of `qwenvl.tiny_model` unless a folder with a real one is given;
the embedding has as many rows as the sizes say either way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prep import draw_frames
from driving.answer_format import AnswerFormat, format_answer
from driving.records import build_messages, conversations_from_messages
from driving.trajectory import Trajectory
from video_io import write_video

FPS = 30.0
TOKENIZER_SIZE = 640
LONGEST_EDGE_PX = 30 * 116_510  # over all frames: 30 frames of 256x448 stay as they are, and so does anything smaller
SEED = 0


def build_processor(ready: Path | None = None) -> Any:
    """A processor that shows 256x448 frames unchanged; of a folder with a real Qwen3-VL tokenizer, or a small one."""
    from qwenvl import tiny_model
    from qwenvl.train.loading import load_processor

    if ready is not None:
        processor = load_processor(ready)
    else:
        processor = tiny_model.build_processor(tiny_model.train_tokenizer(TOKENIZER_SIZE, SEED))
    processor.video_processor.size = {"shortest_edge": 4096, "longest_edge": LONGEST_EDGE_PX}
    return processor


def write_model(
    folder: Path, sizes: dict, *, processor: Path | None = None, device: str = "cpu", dtype: str = "float32"
):
    """Write a Qwen3-VL with random weights and these sizes, with a processor that shows 256x448 frames unchanged.

    Args:
        sizes: text_config and vision_config, as in benchmarks/step_model.json.
        processor: a folder with a real Qwen3-VL tokenizer and processors; None makes a small one.
    """
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    ready = build_processor(processor)
    token_id = ready.tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        **sizes,
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )
    config.text_config.eos_token_id, config.text_config.pad_token_id = token_id("<|im_end|>"), token_id("<|endoftext|>")
    torch.manual_seed(SEED)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = Qwen3VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(previous)
    model.save_pretrained(folder)
    ready.save_pretrained(folder)


def write_rows(
    folder: Path, frame_sizes: Sequence[tuple[int, int]], *, num_frames: int = 30, num_pairs: int = 30
) -> Path:
    """Write one drawn clip for each (height, width) and the training JSON that asks about them; returns its path."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    videos = [f"videos/{index:04d}.mp4" for index in range(len(frame_sizes))]
    for video, (height, width) in zip(videos, frame_sizes, strict=True):
        write_video(folder / video, draw_frames(num_frames, height, width), FPS)
    return write_questions(folder / "train.json", videos, num_pairs)


def write_questions(path: Path, videos: Sequence[str], num_pairs: int = 30) -> Path:
    """Write the training JSON that asks about each video, with drawn answers; returns its path."""
    answer_format = AnswerFormat(num_pairs=num_pairs, fps=FPS)
    rng = np.random.default_rng(SEED)
    rows = []
    for index, video in enumerate(videos):
        velocity = 12 + np.cumsum(rng.normal(0, 0.1, num_pairs))
        curvature = rng.normal(0, 0.01) + np.cumsum(rng.normal(0, 0.0005, num_pairs))
        answer = format_answer(Trajectory(velocity, curvature), answer_format)
        messages = build_messages(answer_format.system_prompt, video, answer_format.question, answer)
        # The system text in front of the question: not every reader keeps a system turn unsupervised.
        row = conversations_from_messages(messages, keep_system=False)
        rows.append({"id": f"clip{index:04d}", "group": f"clip{index:04d}", **row})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def describe_rows(folder: Path) -> dict[str, float]:
    """Means over the rows: tokens, supervised tokens, and patches, as the plain way's processor counts them."""
    from transformers import AutoProcessor

    from benchmarks.reference import PlainDataset

    dataset = PlainDataset(folder / "train.json", AutoProcessor.from_pretrained(folder / "model"))
    samples = [dataset[index] for index in range(len(dataset))]
    return {
        "tokens": float(np.mean([sample["labels"].numel() for sample in samples])),
        "supervised_tokens": float(np.mean([int((sample["labels"] != -100).sum()) for sample in samples])),
        "grid": samples[0]["video_grid_thw"][0].tolist(),
    }
