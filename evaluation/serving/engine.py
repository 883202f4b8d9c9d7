"""A served model behind evaluation's Engine protocol: asked about the very frames and prompt of training.

record ──read──▶ clips ──prepare──▶ Question(body, prompt ids) ──generate──▶ Generated, its prompt compared
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from driving.records import record_name
from evaluation.serving.askers import ask_each
from evaluation.serving.client import PassingError, Reply, Server, ServerError, ask, choose_model
from evaluation.serving.prompt import describe_difference
from evaluation.serving.request import build_body
from qwenvl.data.dataset import build_inputs, read_clips
from qwenvl.train.generation import Generated

ASKED_AT_ONCE = 8  # a server batches what waits for it
PAUSES_S = (1.0, 4.0)  # before a question is asked again that found the server busy or stumbling


class Question(NamedTuple):
    """One request, and the prompt that it must become."""

    id: str
    body: dict[str, Any]
    prompt_ids: list[int]

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_ids)


class ServedEngine:
    """Asks a server; everything but the answers is made here, by the training room's own functions."""

    def __init__(
        self,
        server: Server,
        name: str,
        processor: Any,
        preprocessing: Any,
        folders: Sequence[Path],
        *,
        pictures: str = "png",
    ) -> None:
        self.server, self.name, self.pictures = server, name, pictures
        self.processor, self.preprocessing, self.folders = processor, preprocessing, list(folders)
        self.max_new_tokens = 512
        self.any_prompt = False  # take answers to a prompt that is not rendered as in training

    def describe(self) -> dict[str, Any]:
        """What answered, for the report."""
        return {"model_type": "served", "server": self.server.url, "name": self.name, "pictures": self.pictures}

    def read(self, record: dict[str, Any]) -> list[Any]:
        return read_clips(record, self.preprocessing, self.folders)

    def prepare(self, record: dict[str, Any], clips: list[Any]) -> Question:
        sample = build_inputs(
            record, self.processor, self.preprocessing, with_answer=False, clips=clips, folders=self.folders
        )
        body = build_body(record, clips, model=self.name, max_tokens=self.max_new_tokens, pictures=self.pictures)
        return Question(record_name(record), body, sample["input_ids"].tolist())

    def generate(self, samples: Sequence[Question]) -> list[Generated]:
        replies = ask_each(self._ask, samples, ASKED_AT_ONCE)
        return [self._check(question, reply) for question, reply in zip(samples, replies, strict=True)]

    def _ask(self, question: Question) -> Reply:
        for pause_s in (*PAUSES_S, None):
            try:
                return ask(self.server, question.body)
            except ServerError as error:
                if pause_s is None or not isinstance(error, PassingError):
                    raise ServerError(f"{question.id}: {error}") from error
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _check(self, question: Question, reply: Reply) -> Generated:
        """The answer, where the server asked as training did; else an error, or with `any_prompt` the answer anyway."""
        difference = ""
        if reply.prompt_ids is not None:
            difference = describe_difference(reply.prompt_ids, question.prompt_ids, self.processor.tokenizer)
        elif reply.prompt_tokens != question.num_prompt_tokens:
            difference = (
                f"the server counts {reply.prompt_tokens:,} tokens in its prompt, training had "
                f"{question.num_prompt_tokens:,}"
            )
        if difference and not self.any_prompt:
            raise ServerError(
                f"{question.id}: {difference}; start the server with the line that scripts/vllm_command.py prints, or "
                "pass --force"
            )
        return Generated(reply.text, reply.num_tokens, reply.is_cut, reply.prompt_tokens)


def load_served_engine(
    model: str, address: str, folders: Sequence[Path], *, served_name: str = "", force: bool = False
) -> ServedEngine:
    """The papers of a checkpoint, without its weights, and the server that answers for it.

    Args:
        served_name: what the server calls the model; "" where it serves only one.
        force: take answers to a prompt that is not rendered as in training.

    Raises:
        DrivingError: The server is not there, or does not serve one model that is named.
    """
    from evaluation.serving.vllm_command import load_papers

    processor, preprocessing = load_papers(Path(model))
    server = Server.from_environment(address)
    engine = ServedEngine(server, choose_model(server, served_name), processor, preprocessing, folders)
    engine.any_prompt = force
    return engine


def load_served(planned: Any, options: Any) -> tuple[ServedEngine, dict[str, Any]]:
    """evaluate.py's engine for --server: the papers of the checkpoint, no weights.

    Raises:
        DrivingError: The server is not there, or does not serve one model that is named.
    """
    from qwenvl.train.generation import choose_max_new_tokens

    folders = [options.test_data.parent, Path.cwd()]
    engine = load_served_engine(
        options.model, options.server, folders, served_name=options.served_name, force=options.force
    )
    if options.max_new_tokens == "auto":
        engine.max_new_tokens = choose_max_new_tokens(planned.true_answers, engine.processor.tokenizer)
    else:
        engine.max_new_tokens = int(options.max_new_tokens)
    return engine, {"model": engine.describe(), "max_new_tokens": engine.max_new_tokens}


def check_served(options: Any) -> None:
    """Raise where a run asks a server for what only weights at hand can do.

    Raises:
        ServerError: The flag to leave out.
    """
    wrong = {
        "--constrained": options.constrained,
        "--num-samples": options.num_samples,
        "--devices": options.devices,
        "--prepared-dir": options.prepared_dir,
    }
    if found := [flag for flag, value in wrong.items() if value]:
        raise ServerError(f"--server asks for the single free answer to each clip; leave out {' and '.join(found)}")
