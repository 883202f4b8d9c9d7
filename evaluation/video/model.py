"""The model that is asked about a video: what it was taught to answer, and the engine that asks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from driving.answer_format import AnswerFormat, format_answer
from driving.errors import DrivingError
from driving.trajectory import Trajectory
from evaluation.asking.engine import Engine, choose_device, load_engine
from evaluation.checkpoint import Checkpoint

if TYPE_CHECKING:
    from evaluation.video.tool import PredictOptions

WIDEST_ANSWER = (-88.8, -0.8888)  # no pair of a sane answer is longer than this one


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
    try:
        return AnswerFormat(**taught)
    except TypeError as error:
        raise DrivingError(f"the answer format {taught} is not one of this version ({error})") from error


def load_model(options: PredictOptions, answer_format: AnswerFormat, checkpoint: Checkpoint) -> Engine:
    """The model with its own preprocessing, and room for the longest answer of its format."""
    from qwenvl.data.preview import find_prompt_change
    from qwenvl.train.generation import choose_max_new_tokens

    engine = load_engine(
        options.model,
        choose_device(options.device),
        [Path.cwd()],
        base_model=options.base_model,
        other_base=options.force,
        has_preprocessing=checkpoint.preprocessing is not None,
        dataset={"fps": answer_format.fps},
    )
    change = find_prompt_change(engine.preprocessing, engine.processor)
    if change and not options.force:
        raise DrivingError(f"{change}, or pass --force")
    if options.max_new_tokens == "auto":
        longest = Trajectory.from_pairs(np.tile(WIDEST_ANSWER, (answer_format.num_pairs, 1)))
        text = format_answer(longest, answer_format)
        engine.max_new_tokens = choose_max_new_tokens([text], engine.processor.tokenizer)
    else:
        engine.max_new_tokens = int(options.max_new_tokens)
    if options.constrained:
        engine.keep_to_format(answer_format)
        engine.generate = engine.generate_constrained
    return engine
