"""A run's evaluations, and the same numbers from its result alone: plain transformers' loss, evaluation's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def read_evaluations(output_dir: Path) -> dict[int, dict[str, Any]]:
    """The lines of eval_log.jsonl by step."""
    lines = [json.loads(line) for line in (output_dir / "eval_log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines}


def measure_plain_loss(model_dir: Path, val_json: Path) -> float:
    """Mean over all supervised tokens, row by row, through transformers' own forward and full logits."""
    from qwenvl.data.collate import to_prompt_inputs
    from qwenvl.data.dataset import build_inputs
    from qwenvl.train.inference import load_for_inference

    model, processor, preprocessing = load_for_inference(model_dir)
    total, num_tokens = 0.0, 0
    for record in json.loads(val_json.read_text()):
        sample = build_inputs(record, processor, preprocessing, with_answer=True, folders=[val_json.parent])
        batch = {
            "input_ids": sample["input_ids"][None],
            "mm_token_type_ids": sample["mm_token_type_ids"][None],
            "attention_mask": torch.ones_like(sample["input_ids"])[None],
            "videos": sample["videos"],
            "video_fps": sample["video_fps"],
            "images": sample["images"],
        }
        with torch.no_grad():
            logits = model(**to_prompt_inputs(batch, processor, "cpu")).logits[0]
        wanted = sample["labels"][1:]
        losses = torch.nn.functional.cross_entropy(logits[:-1], wanted, ignore_index=-100, reduction="none")
        total += float(losses.double().sum())
        num_tokens += int((wanted != -100).sum())
    return total / num_tokens


def ask_plainly(model_dir: Path, val_json: Path) -> list[tuple[str, str, str, bool]]:
    """(id, true, generated, cut) of each row, asked alone by the engine of scripts/evaluate.py."""
    from evaluation.asking.engine import QwenEngine
    from qwenvl.train.generation import choose_max_new_tokens
    from qwenvl.train.inference import load_for_inference

    model, processor, preprocessing = load_for_inference(model_dir)
    engine = QwenEngine(model, processor, preprocessing, [val_json.parent], "cpu")
    records = json.loads(val_json.read_text())
    truths = [record["conversations"][-1]["value"] for record in records]
    engine.max_new_tokens = choose_max_new_tokens(truths, processor.tokenizer)
    answers = [engine.generate([engine.prepare(record, engine.read(record))])[0] for record in records]
    return [(r["id"], true, a.text, a.is_cut) for r, true, a in zip(records, truths, answers, strict=True)]


def list_answers(line: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """The same of one evaluation."""
    return [(row["id"], row["true"], row["generated"], row["is_cut"]) for row in line["answers"]]
