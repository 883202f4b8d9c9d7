"""The model side of evaluation: records in, texts out. The only file of this room that touches torch.

    record ──read──▶ clips (uint8) ──prepare──▶ sample ──generate──▶ Generated(text, tokens, cut or not)

Inputs are built by the training room's own functions, so that what is asked is what was taught.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from driving.errors import DrivingError

Record = dict[str, Any]
MARGIN_TOKENS = 16
MARGIN_SHARE = 0.1


@dataclass(frozen=True)
class Generated:
    """One generated answer.

    Attributes:
        text: without special tokens.
        num_tokens: generated, the end token included.
        is_cut: the token limit came before the end token.
        prompt_tokens: length of the prompt.
    """

    text: str
    num_tokens: int
    is_cut: bool
    prompt_tokens: int


class Engine(Protocol):
    """What prediction needs of a model; tests bring their own."""

    def read(self, record: Record) -> list[Any]:
        """Decode the record's videos into clips with `frames` (T, H, W, 3) uint8 and `fps`."""

    def prepare(self, record: Record, clips: list[Any]) -> Any:
        """Build one sample; raises DrivingError where the record cannot be asked."""

    def generate(self, samples: Sequence[Any]) -> list[Generated]:
        """Answer a batch, greedily."""


class QwenEngine:
    """A trained (or base) Qwen3-VL behind the Engine protocol.

    Raises:
        DrivingError: The device is not there, or its memory does not hold the batch.
    """

    def __init__(self, model: Any, processor: Any, preprocessing: Any, folders: Sequence[Path], device: str) -> None:
        self.model, self.processor, self.preprocessing = model, processor, preprocessing
        self.folders, self.device = list(folders), device
        self.max_new_tokens = 512
        self.end_tokens = find_end_tokens(model, processor.tokenizer)

    def describe(self) -> dict[str, Any]:
        """Size and kind of the model, for the report."""
        config = self.model.config
        return {
            "model_type": config.model_type,
            "num_parameters": sum(part.numel() for part in self.model.parameters()),
            "precision": str(self.model.dtype).removeprefix("torch."),
            "device": self.device,
        }

    def read(self, record: Record) -> list[Any]:
        from qwenvl.data.dataset import read_clips

        return read_clips(record, self.preprocessing, self.folders)

    def prepare(self, record: Record, clips: list[Any]) -> Any:
        from qwenvl.data.dataset import build_inputs

        return build_inputs(
            record, self.processor, self.preprocessing, with_answer=False, clips=clips, folders=self.folders
        )

    def generate(self, samples: Sequence[Any]) -> list[Generated]:
        import torch

        from qwenvl.data.collate import collate_prompts, to_prompt_inputs

        tokenizer = self.processor.tokenizer
        pad = self.end_tokens[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        batch = collate_prompts(samples, pad_token_id=pad)
        try:
            inputs = to_prompt_inputs(batch, self.processor, self.device, self.model.dtype)
            with torch.inference_mode():
                output = self.model.generate(
                    **inputs,
                    max_new_tokens=self.max_new_tokens,
                    do_sample=False,
                    eos_token_id=self.end_tokens,
                    pad_token_id=pad,
                )
        except torch.OutOfMemoryError as error:
            raise DrivingError(
                f"{len(samples)} clips at once do not fit into the memory of {self.device}; use a smaller --batch-size"
            ) from error
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [
            read_tokens(tokens, self.end_tokens, tokenizer, len(sample["input_ids"]))
            for tokens, sample in zip(answers, samples, strict=True)
        ]


def read_tokens(tokens: list[int], end_tokens: list[int], tokenizer: Any, prompt_tokens: int) -> Generated:
    """Cut one row of `generate` at its end token; a row without one was stopped by the limit."""
    stops = [place for place, token in enumerate(tokens) if token in end_tokens]
    length = stops[0] + 1 if stops else len(tokens)
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Generated(text, length, not stops, prompt_tokens)


def find_end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model's own, the tokenizer's, and Qwen's end of turn."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = list(configured) if isinstance(configured, list | tuple) else [configured]
    ids += [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    return sorted({int(token) for token in ids if token is not None and token != tokenizer.unk_token_id})


def choose_max_new_tokens(answers: Sequence[str], tokenizer: Any) -> int:
    """Tokens of the longest true answer, its end token, and a margin: room for a number with one more digit."""
    longest = max(len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in answers)
    return longest + 1 + max(MARGIN_TOKENS, round(MARGIN_SHARE * longest))


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
    from qwenvl.train.loading import inference_dtype

    device = choose_device(name)
    return f"{device.split(':')[0]} {str(inference_dtype(device)).removeprefix('torch.')}"


def load_engine(
    model: str,
    device: str,
    folders: Sequence[Path],
    *,
    base_model: str = "",
    other_base: bool = False,
    has_preprocessing: bool = True,
    dataset: dict[str, Any] | None = None,
) -> QwenEngine:
    """Load a model with the preprocessing of its checkpoint.

    A model without stored preprocessing (a base model) is shown the clips at the rate the dataset was made with.

    Args:
        base_model: where an adapter's base model is now, if it has moved.
        other_base: put an adapter on its base model even where that has changed since.
    """
    from qwenvl.train.loading import load_for_inference

    weights, processor, preprocessing = load_for_inference(
        model, device=device, base_model=base_model or None, other_base=other_base
    )
    fps = (dataset or {}).get("fps")
    if not has_preprocessing and fps:
        preprocessing = dataclasses.replace(preprocessing, video_fps=float(fps))
    return QwenEngine(weights, processor, preprocessing, folders, device)
