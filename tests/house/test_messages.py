"""Every flag and every tool that an error message names can be typed."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "driving",
    "video_io",
    "data_prep",
    "evaluation",
    "systems",
    "scripts",
    "benchmarks",
    "qwen-vl-finetune/qwenvl",
)
TOOLS = {
    "data_prep.download.options": ["DownloadOptions"],
    "data_prep.segment_options": ["SegmentOptions"],
    "data_prep.dataset_options": ["DatasetOptions"],
    "data_prep.training_format": ["ConvertOptions"],
    "data_prep.export.tool": ["ExportOptions"],
    "data_prep.synthetic.tool": ["SyntheticOptions"],
    "data_prep.audit.tool": ["AuditOptions"],
    "data_prep.label_floor": ["LabelFloorOptions"],
    "evaluation.evaluate": ["EvaluateOptions"],
    "evaluation.comparing.tool": ["CompareOptions"],
    "evaluation.video.tool": ["PredictOptions"],
    "evaluation.serving.merge": ["MergeOptions"],
    "evaluation.text.score_text": ["ScoreTextOptions"],
    "evaluation.serving.vllm_command": ["VllmOptions"],
    "evaluation.serving.ask": ["AskOptions"],
    "evaluation.demo.tool": ["DemoOptions"],
    "qwenvl.tiny_model": ["TinyModelOptions"],
    "qwenvl.check_dataset": ["CheckDatasetOptions"],
    "qwenvl.train.argument": ["ModelArguments", "DataArguments", "TrainingArguments"],
}
# uv's, torchrun's, docker's and argparse's own; what transformers 5 dropped, named to say what became of it; a
# placeholder.
OTHERS = {
    "extra",
    "inexact",
    "nproc_per_node",
    "ipc",
    "shm_size",
    "save_safetensors",
    "warmup_ratio",
    "logging_dir",
    "flag",
    "help",
}
OTHER_SCRIPTS = {"zero_to_fp32.py"}  # which DeepSpeed puts into its checkpoints


def list_messages() -> Iterator[tuple[str, str]]:
    """(file:line, literal text) of everything inside a `raise`."""
    for path in sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                yield (
                    f"{path.relative_to(ROOT)}:{node.lineno}",
                    " ".join(text for text in texts if isinstance(text, str)),
                )


@pytest.mark.needs_torch
def test_every_flag_in_an_error_message_is_a_flag_of_a_tool():
    pytest.importorskip("torch")
    known = set(OTHERS)
    for module, classes in TOOLS.items():
        for name in classes:
            known |= {field.name for field in dataclasses.fields(getattr(importlib.import_module(module), name))}
    named = [(place, flag) for place, text in list_messages() for flag in re.findall(r"--([a-z][\w-]*\w)", text)]
    assert len(named) > 30
    assert [(place, flag) for place, flag in named if flag.replace("-", "_") not in known] == []


def test_every_script_in_an_error_message_is_there():
    named = [(place, name) for place, text in list_messages() for name in re.findall(r"(\w[\w/-]*\.(?:py|sh))\b", text)]
    assert len(named) > 10
    assert [(place, name) for place, name in named if name not in OTHER_SCRIPTS and not (ROOT / name).is_file()] == []
