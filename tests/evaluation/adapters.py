"""Adapters as training leaves them, without training: drawn values in real peft, saved with their papers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from driving.answer_format import AnswerFormat
from qwenvl.data.frame_cache import Clip

FORMAT = AnswerFormat(num_pairs=10, fps=10.0)
ANSWER = "[" + ", ".join(f"(1{index}.0, 0.00{index}0)" for index in range(10)) + "]"


def build_record(video: str = "clip.mp4", answer_format: AnswerFormat = FORMAT) -> dict:
    """A row that asks the dataset's question about one clip."""
    return {
        "id": "clip_seg_00",
        "group": "clip",
        "video": video,
        "conversations": [
            {"from": "system", "value": answer_format.system_prompt},
            {"from": "human", "value": f"<video>\n{answer_format.question}"},
            {"from": "gpt", "value": ANSWER},
        ],
    }


def draw_frames(num_frames: int = 10, height: int = 64, width: int = 96) -> np.ndarray:
    """(T, H, W, 3) uint8 of noise."""
    return np.random.default_rng(3).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def write_preprocessing(folder: Path, processor, **changes) -> None:
    """preprocessing.json of a run on 10 frames of 2 x 3 merged patches, with the first prompt it was trained on."""
    import transformers

    from qwenvl.data.dataset import build_inputs
    from qwenvl.data.preprocessing import Preprocessing
    from qwenvl.data.preview import hash_prompt, keep_example

    side = processor.video_processor.patch_size * processor.video_processor.merge_size
    record, clips = build_record(), [Clip(draw_frames(10, 2 * side, 3 * side), 10.0)]
    preprocessing = Preprocessing(video_fps=10.0, video_min_frames=4, video_frame_pixels=64 * 96)
    sample = build_inputs(record, processor, preprocessing, with_answer=True, clips=clips)
    values = {
        "video_fps": 10.0,
        "video_min_frames": 4,
        "video_frame_pixels": 64 * 96,
        "factor_px": side,
        "prompt_hash": hash_prompt(sample, processor.tokenizer),
        "prompt_example": keep_example(record, sample),
        "answer_format": FORMAT.to_json(),
        "transformers_version": transformers.__version__,
    }
    Preprocessing(**{**values, **changes}).write(folder)


def make_adapter(base: Path, folder: Path, *, load_in_4bit: bool = False, precision: str = "fp32", **flags) -> Path:
    """An adapter with every value drawn, its tuned mergers too, beside the papers of a training run."""
    import torch

    from qwenvl.train.argument import ModelArguments
    from qwenvl.train.base_model import resolve_base
    from qwenvl.train.loading import load_model, load_processor, weights_dtype
    from qwenvl.train.tuning import apply_tuning

    arguments = ModelArguments(lora_enable=True, **{"lora_r": 4, "lora_alpha": 8, **flags})
    model = load_model(base, attention="sdpa", dtype=weights_dtype(precision), load_in_4bit=load_in_4bit)
    model = apply_tuning(model, arguments)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    processor = load_processor(base)
    processor.save_pretrained(folder)
    write_preprocessing(folder, processor)
    (folder / "training_groups.json").write_text('["clip"]')
    import dataclasses

    known = dataclasses.replace(resolve_base(base), load_in_4bit=load_in_4bit, precision=precision)
    known.write(folder)
    return folder
