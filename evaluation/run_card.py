"""Everything about a run that is not a score: what was asked of whom, on which data, with which stamps."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from driving.options import describe_options
from evaluation.agreement import is_synthetic
from evaluation.asking.predictions import Prediction
from evaluation.lineage import HOW_NOT_WHAT, collect_commands
from evaluation.planning import FORMAT_VERSION, Run
from evaluation.scoring.truth import Truth
from evaluation.versions import read_versions

if TYPE_CHECKING:
    from evaluation.evaluate import EvaluateOptions

SMALL_MODEL_PARAMETERS = 100_000_000
_PACKAGES = ("torch", "transformers", "peft", "numpy", "av")


def describe_run(
    planned: Run, truth: Truth, facts: dict[str, Any], predictions: Sequence[Prediction], options: EvaluateOptions
) -> dict[str, Any]:
    """metrics.json beside the scores, as JSON values."""
    synthetic = is_synthetic(planned.dataset, truth)
    num_parameters = facts.get("model", {}).get("num_parameters")
    is_tiny = num_parameters is not None and num_parameters < SMALL_MODEL_PARAMETERS
    stamps = list(planned.stamps)
    if is_tiny or synthetic:
        model = f"a tiny model ({num_parameters / 1e6:.1f} M parameters)" if is_tiny else "a model"
        stamps.insert(0, f"{model}{' on synthetic data' if synthetic else ''}: {_advice(synthetic)}")
    clips = sorted({tuple(entry.clip) for entry in predictions})
    return {
        "format_version": FORMAT_VERSION,
        "stamps": stamps,
        "model_card": {
            "name": planned.checkpoint.name,
            "fingerprint": planned.checkpoint.fingerprint,
            **facts.get("model", {}),
            "max_new_tokens": facts.get("max_new_tokens"),
            "preprocessing": planned.checkpoint.preprocessing,
        },
        "data": {
            "test_data": options.test_data.as_posix(),
            "scored_with": planned.scored_with,
            "is_synthetic": synthetic,
            "splits": planned.table.group_counts(),
            "clips_frames_height_width": [list(clip) for clip in clips[:8]],
            "prompt_tokens": _median([entry.prompt_tokens for entry in predictions]),
            "answer_format": planned.answer_format.to_json(),
            "dataset": planned.dataset,
        },
        "options": {name: value for name, value in describe_options(options).items() if name not in HOW_NOT_WHAT},
        "commands": collect_commands(planned.checkpoint, options),
        "versions": {"python": platform.python_version(), **read_versions(_PACKAGES)},
    }


def _advice(synthetic: bool) -> str:
    if synthetic:
        return "the numbers show whether the pipeline works and the model looks; they say nothing about real roads"
    return "it shows whether the pipeline works, not how well Qwen3-VL drives"


def _median(values: Sequence[int]) -> float | None:
    return float(np.median(values)) if values else None
