"""Whether two folders are the same model: their logits on one and the same prompt, one after the other in memory.

    folder ──load_for_inference──▶ model ──read_logits──▶ (S, V) at the places where the answer is predicted

The prompt is the first that the model was trained on, with drawn pictures in the place of its clip. S = answer tokens,
V = vocabulary
"""

from __future__ import annotations

import dataclasses
import gc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driving.answer_format import AnswerFormat, format_answer
from driving.trajectory import Trajectory

DRAWN_CLIP = (4, 2, 3)  # frames, height and width in merged patches, where the checkpoint remembers no clip
# Root mean square of the differences over the spread of the logits. Rounding the sum of weight and adapter once to 16
# bits moves every logit a little: docs/LOG.md has what was measured.
TOLERANCES = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}


@dataclass(frozen=True)
class Parity:
    """How far the logits of two models are apart.

    Attributes:
        num_tokens: answer tokens looked at.
        max_difference, rms_difference: of two logits, the largest and the root mean square.
        spread: standard deviation of the first model's logits.
        same_choice: share of the tokens at which both have the same likeliest word.
        tolerance: most that rms_difference / spread may be.
        device, compute_dtype: of the comparison.
        weights_dtype: of the merged weights.
    """

    num_tokens: int
    max_difference: float
    rms_difference: float
    spread: float
    same_choice: float
    tolerance: float
    device: str
    compute_dtype: str
    weights_dtype: str

    @property
    def is_alike(self) -> bool:
        """Whether the differences are small beside the spread; a NaN is not."""
        return bool(self.rms_difference <= self.tolerance * self.spread)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"logits of {self.num_tokens} answer tokens differ by {self.rms_difference:.2g}, at most "
            f"{self.max_difference:.2g} (their spread is {self.spread:.2g}); the same first choice at "
            f"{self.same_choice:.1%}"
        )


def compare_logits(adapter: str, merged: str, device: str, *, base_model: str = "", other_base: bool = False) -> Parity:
    """Compare an adapter on its base with the folder that it was merged into.

    Raises:
        DrivingError: One of them cannot be loaded.
    """
    import torch

    wanted, facts = read_logits(adapter, device, base_model=base_model, other_base=other_base)
    found, _ = read_logits(merged, device)
    difference = wanted - found
    spread = float(wanted.std())
    weights = read_weights_dtype(Path(merged))
    return Parity(
        num_tokens=len(wanted),
        max_difference=float(difference.abs().max()),
        rms_difference=float(difference.square().mean().sqrt()),
        spread=spread,
        same_choice=float((wanted.argmax(-1) == found.argmax(-1)).to(torch.float32).mean()),
        tolerance=max(TOLERANCES[weights], TOLERANCES[facts["dtype"]]),
        device=device,
        compute_dtype=facts["dtype"],
        weights_dtype=weights,
    )


def read_logits(
    model: str, device: str, *, base_model: str = "", other_base: bool = False
) -> tuple[Any, dict[str, str]]:
    """((S, V) float32 logits on the CPU, {"dtype": what was computed in}) of one folder on the drawn prompt."""
    import torch

    from qwenvl.data.collate import collate_prompts, to_prompt_inputs
    from qwenvl.data.dataset import build_inputs
    from qwenvl.data.labels import IGNORED
    from qwenvl.train.inference import load_for_inference

    weights, processor, preprocessing = load_for_inference(
        model, device, base_model=base_model or None, other_base=other_base
    )
    record, clips = build_example(preprocessing)
    sample = build_inputs(record, processor, preprocessing, with_answer=True, clips=clips)
    inputs = to_prompt_inputs(collate_prompts([sample], pad_token_id=0), processor, device, weights.dtype)
    is_answer = sample["labels"] != IGNORED
    first = int(is_answer.nonzero()[0])
    num_kept = len(is_answer) - first + 1  # a logit predicts the token after it
    with torch.inference_mode():
        logits = weights(**inputs, use_cache=False, logits_to_keep=num_kept).logits[0, :-1][is_answer[first:]]
        logits = logits.float().cpu()
    facts = {"dtype": str(weights.dtype).removeprefix("torch.")}
    del weights, inputs
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return logits, facts


def build_example(preprocessing: Any) -> tuple[dict[str, Any], list[Any]]:
    """(record, drawn clips): the first prompt that was trained on, or one in the checkpoint's answer format."""
    from qwenvl.data.frame_cache import Clip

    example = preprocessing.prompt_example
    if example is None:
        format_ = AnswerFormat(**{**(preprocessing.answer_format or {}), "history_pairs": 0})
        motion = Trajectory(np.full(format_.num_pairs, 12.3), np.full(format_.num_pairs, 0.0042))
        turns = [
            {"from": "human", "value": f"<video>\n{format_.question}"},
            {"from": "gpt", "value": format_answer(motion, format_)},
        ]
        num_frames, rows, columns = DRAWN_CLIP
        side = preprocessing.factor_px
        example = {"conversations": turns, "videos": [[num_frames, rows * side, columns * side, format_.fps]]}
    rng = np.random.default_rng(7)
    clips = [
        Clip(rng.integers(0, 256, (*map(int, shape), 3), dtype=np.uint8), float(fps))
        for *shape, fps in example["videos"]
    ]
    return {"id": "example", "video": ["drawn"] * len(clips), "conversations": example["conversations"]}, clips


def read_weights_dtype(folder: Path) -> str:
    """As config.json says it, "bfloat16", "float16" or "float32"; its key was `torch_dtype` before transformers 5."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
