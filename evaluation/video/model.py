"""The model that is asked about a video: what it was taught to answer, and the engine that asks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from driving.answer_format import AnswerFormat
from driving.errors import DrivingError
from evaluation.asking.answer_limit import choose_answer_limit
from evaluation.asking.engine import Engine, load_engine
from evaluation.checkpoint import Checkpoint

if TYPE_CHECKING:
    from evaluation.video.tool import PredictOptions


def choose_answer_format(checkpoint: Checkpoint) -> AnswerFormat:
    """The format that the model was taught; the default question for a model as it comes.

    Raises:
        DrivingError: It was trained on something else than motion, or by another version.
    """
    if checkpoint.preprocessing is None:
        return AnswerFormat()
    taught = checkpoint.preprocessing.get("answer_format")
    if taught is None:
        raise DrivingError(
            f"{checkpoint.name} was not taught to answer with motion: its preprocessing.json holds no answer_format; "
            "take a model that was trained on a driving dataset of this project"
        )
    return AnswerFormat.from_json(taught)


def load_model(options: PredictOptions, answer_format: AnswerFormat, checkpoint: Checkpoint) -> Engine:
    """The model with its own preprocessing, and room for the longest answer of its format."""
    engine = load_engine(
        options.model,
        options.device,
        [Path.cwd()],
        base_model=options.base_model,
        force=options.force,
        fps=answer_format.fps if checkpoint.preprocessing is None else None,
    )
    limit = choose_answer_limit(answer_format, engine.processor.tokenizer)
    engine.max_new_tokens = limit if options.max_new_tokens == "auto" else int(options.max_new_tokens)
    if options.constrained:
        engine.keep_to_format(answer_format)
        engine.generate = engine.generate_constrained
    return engine
