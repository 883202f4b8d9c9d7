"""The model side of evaluation: records in, texts out. The only file of this room that asks weights.

    record ──read──▶ clips (uint8) ──prepare──▶ sample ──generate──▶ Generated(text, tokens, cut or not)

Inputs are built by the training room's own functions, so that what is asked is what was taught.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from driving.answer_format import AnswerFormat
from driving.errors import DrivingError
from qwenvl.train.generation import Generated, choose_end_of_turn, find_end_tokens, generate_answers
from qwenvl.train.sampling import Sampling

Record = dict[str, Any]


class Engine(Protocol):
    """What prediction needs of a model; tests bring their own."""

    def read(self, record: Record) -> list[Any]:
        """Decode the record's videos into clips with `frames` (T, H, W, 3) uint8 and `fps`."""

    def prepare(self, record: Record, clips: list[Any]) -> Any:
        """Build one sample; raises DrivingError where the record cannot be asked."""

    def generate(self, samples: Sequence[Any]) -> list[Generated]:
        """Answer a batch, greedily."""

    def generate_constrained(self, samples: Sequence[Any]) -> list[Generated]:
        """Answer a batch, greedily among what the answer format allows; only asked where the run wants it."""

    def draw(self, samples: Sequence[Any], names: Sequence[str], sampling: Sampling, index: int) -> list[Generated]:
        """Draw the answer number `index` of each row; only asked where the run wants it."""


class QwenEngine:
    """A trained (or base) Qwen3-VL behind the Engine protocol.

    Raises:
        DrivingError: The device is not there, or its memory does not hold the batch.
    """

    def __init__(self, model: Any, processor: Any, preprocessing: Any, folders: Sequence[Path], device: str) -> None:
        self.model, self.processor, self.preprocessing = model, processor, preprocessing
        self.folders, self.device = list(folders), device
        self.max_new_tokens = 512
        self.prepared: Any = None
        self.entries: dict[str, Any] = {}  # of the prepared cache, by the hash of the frames they hold
        self.end_tokens = find_end_tokens(model, processor.tokenizer)
        self.token_grammar: Any = None

    def describe(self) -> dict[str, Any]:
        """Size and kind of the model, for the report."""
        from qwenvl.train.parts import count_parameters

        config = self.model.config
        return {
            "model_type": config.model_type,
            "num_parameters": sum(total for _, total in count_parameters(self.model).values()),
            "precision": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.split(":")[0],  # which of several is nothing that an answer depends on
        }

    def use_prepared(self, folder: Path, records: Sequence[Record]) -> None:
        """Read the videos of these records from a prepared cache from now on.

        Raises:
            DrivingError: It was made with other pixels, or lacks one of them, or a file has changed since.
        """
        from qwenvl.data.prepared import PreparedCache

        prepared = PreparedCache.read(folder)
        prepared.check_pixels(self.preprocessing)
        self.entries = prepared.find_clips(records, [self.folders] * len(records))
        self.prepared = prepared

    def read(self, record: Record) -> list[Any]:
        from qwenvl.data.dataset import read_clips
        from qwenvl.data.identity import hash_frames

        if self.prepared is not None:
            return self.prepared.read_clips(self.entries[hash_frames(record)])
        return read_clips(record, self.preprocessing, self.folders)

    def prepare(self, record: Record, clips: list[Any]) -> Any:
        from qwenvl.data.dataset import build_inputs

        return build_inputs(
            record, self.processor, self.preprocessing, with_answer=False, clips=clips, folders=self.folders
        )

    def keep_to_format(self, answer_format: AnswerFormat) -> None:
        """Make `generate_constrained` possible.

        Raises:
            DrivingError: The tokenizer cannot spell the format.
        """
        from driving.answer_grammar import build_grammar
        from qwenvl.train.token_grammar import TokenGrammar

        end_of_turn = choose_end_of_turn(self.end_tokens, self.processor.tokenizer)
        self.token_grammar = TokenGrammar(build_grammar(answer_format), self.processor.tokenizer, end_of_turn)

    def generate(self, samples: Sequence[Any]) -> list[Generated]:
        return self._generate(samples, self.max_new_tokens)

    def generate_constrained(self, samples: Sequence[Any]) -> list[Generated]:
        """Never cut: the limit is the longest answer that the format allows."""
        from qwenvl.train.token_grammar import GrammarMask

        return self._generate(samples, self.token_grammar.max_tokens, GrammarMask(self.token_grammar))

    def draw(self, samples: Sequence[Any], names: Sequence[str], sampling: Sampling, index: int) -> list[Generated]:
        from qwenvl.train.sampling import build_sampler

        sampler = build_sampler(sampling, names, index, self.max_new_tokens)
        return self._generate(samples, self.max_new_tokens, sampler)

    def _generate(self, samples: Sequence[Any], max_new_tokens: int, steer: Any = None) -> list[Generated]:
        import torch

        longest = max(len(sample["input_ids"]) for sample in samples)
        check_room(longest, max_new_tokens, self.model.config.get_text_config().max_position_embeddings)
        try:
            with torch.inference_mode():
                return generate_answers(
                    self.model,
                    self.processor,
                    samples,
                    max_new_tokens=max_new_tokens,
                    end_tokens=self.end_tokens,
                    device=self.device,
                    dtype=self.model.dtype,
                    steer=steer,
                )
        except torch.OutOfMemoryError as error:
            raise DrivingError(
                f"{len(samples)} clips at once do not fit into the memory of {self.device}; use a smaller --batch-size"
            ) from error


def choose_device(name: str) -> str:
    """`auto` is the first GPU, else the CPU.

    Raises:
        DrivingError: A GPU is asked for and there is none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DrivingError(f"--device {name}: torch sees no GPU here; use --device cpu or auto")
    return name


def describe_device(name: str) -> str:
    """Kind of device and number format behind the answers, "cpu float32": the two may change an answer.

    Raises:
        DrivingError: A GPU is asked for and there is none.
    """
    from qwenvl.train.inference import inference_dtype

    device = choose_device(name)
    return f"{device.split(':')[0]} {str(inference_dtype(device)).removeprefix('torch.')}"


def check_room(prompt_tokens: int, max_new_tokens: int, context_tokens: int) -> None:
    """Refuse to ask for more than the model's positions reach: it would go on for hours, and into what it never saw.

    Raises:
        DrivingError: The prompt and the longest answer together are longer than the context.
    """
    if prompt_tokens + max_new_tokens <= context_tokens:
        return
    room = context_tokens - prompt_tokens
    advice = f"pass a --max-new-tokens of at most {room:,}" if room > 0 else "ask about fewer or smaller frames"
    raise DrivingError(
        f"a prompt of {prompt_tokens:,} tokens and an answer of up to {max_new_tokens:,} do not fit into the model's "
        f"context of {context_tokens:,} tokens; {advice}"
    )


def load_engine(
    model: str,
    device: str,
    folders: Sequence[Path],
    *,
    base_model: str = "",
    force: bool = False,
    fps: float | None = None,
) -> QwenEngine:
    """Load a model with the preprocessing of its checkpoint; one whose prompt has changed since training is refused.

    Args:
        device: auto, cpu, cuda or cuda:N.
        base_model: where an adapter's base model is now, if it has moved.
        force: go on although prompt or base model are not those of training.
        fps: frames a second to show a model that stored no preprocessing (a base model).

    Raises:
        DrivingError: The model or the device is not there, or not what it was in training.
    """
    from qwenvl.data.preview import find_prompt_change
    from qwenvl.train.inference import load_for_inference

    device = choose_device(device)
    weights, processor, preprocessing = load_for_inference(
        model, device=device, base_model=base_model or None, other_base=force
    )
    if fps:
        preprocessing = dataclasses.replace(preprocessing, video_fps=float(fps))
    change = find_prompt_change(preprocessing, processor)
    if change and not force:
        raise DrivingError(f"{change}, or pass --force")
    return QwenEngine(weights, processor, preprocessing, folders, device)
