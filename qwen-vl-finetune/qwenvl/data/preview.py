"""One sample as the loss sees it: the prompt, the video as a count, the supervised text marked or coloured."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from qwenvl.data.dataset import build_inputs
from qwenvl.data.frame_cache import Clip
from qwenvl.data.labels import IGNORED
from qwenvl.data.preprocessing import Preprocessing

MARKS = ("[[", "]]")
COLOUR_MARKS = ("\x1b[1;32m", "\x1b[0m")


class Run(NamedTuple):
    """Neighbouring tokens of one kind, as text."""

    text: str
    is_visual: bool
    is_supervised: bool


def list_runs(sample: dict[str, Any], tokenizer: Any, max_chars: int) -> list[Run]:
    """A sample's tokens as text, cut where the modality or the supervision changes; visual tokens are counted."""
    ids, labels = sample["input_ids"].tolist(), sample["labels"].tolist()
    kinds = sample["mm_token_type_ids"].tolist()
    runs, start = [], 0
    while start < len(ids):
        stop = start
        key = (kinds[start] > 0, labels[start] != IGNORED)
        while stop < len(ids) and (kinds[stop] > 0, labels[stop] != IGNORED) == key:
            stop += 1
        text = f"({stop - start} visual tokens)" if key[0] else tokenizer.decode(ids[start:stop])
        runs.append(Run(shorten(show_controls(text), max_chars) if key[1] else show_controls(text), *key))
        start = stop
    return runs


def format_sample(sample: dict[str, Any], tokenizer: Any, max_chars: int = 700, marks: tuple[str, str] = MARKS) -> str:
    """Text of a sample; visual tokens are counted, supervised text stands between the marks."""
    return "".join(
        f"{marks[0]}{run.text}{marks[1]}" if run.is_supervised else run.text
        for run in list_runs(sample, tokenizer, max_chars)
    )


def shorten(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[: max_chars // 2]} ... {text[-max_chars // 2 :]}"


def show_controls(text: str) -> str:
    """A dataset's text may not steer the terminal that shows it."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def describe_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """Counts of a sample: tokens, visual tokens, supervised tokens, and (frames, height, width) of each video."""
    return {
        "tokens": len(sample["input_ids"]),
        "visual_tokens": int((sample["mm_token_type_ids"] > 0).sum()),
        "supervised_tokens": int((sample["labels"] != IGNORED).sum()),
        "videos": [list(video.shape[:3]) for video in sample["videos"]],
        "images": [list(image.shape[1:3]) for image in sample["images"]],
    }


def format_facts(sample: dict[str, Any]) -> str:
    """One line: id, group, frames and sizes, tokens."""
    counts = describe_sample(sample)
    media = [f"{frames} frames of {height}x{width} px" for frames, height, width in counts["videos"]]
    media += [f"an image of {height}x{width} px" for height, width in counts["images"]]
    return (
        f"{sample['id']} (group {sample['group']}), {', '.join(media) or 'text only'}, {counts['tokens']:,} tokens: "
        f"{counts['visual_tokens']:,} visual, {counts['supervised_tokens']:,} supervised"
    )


def hash_prompt(sample: dict[str, Any], tokenizer: Any) -> str:
    """Sixteen hex digits of the rendered prompt, everything before the first supervised token.

    Time stamps, vision tokens and frame size are in it: another version of the processor, or another way of serving,
    that renders a different prompt gives another hash.
    """
    ids = sample["input_ids"].tolist()
    supervised = (sample["labels"] != IGNORED).nonzero()
    prompt = tokenizer.decode(ids[: int(supervised[0])] if len(supervised) else ids)
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def keep_example(record: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any] | None:
    """What is needed to render a sample's prompt again without its files; None for one with still images."""
    if sample["images"]:
        return None
    turns = record["conversations"]
    num_turns = 1 + next(index for index, turn in enumerate(turns) if turn["from"] == "gpt")
    shapes = [[*video.shape[:3], fps] for video, fps in zip(sample["videos"], sample["video_fps"], strict=True)]
    return {"conversations": turns[:num_turns], "videos": shapes}


def find_prompt_change(preprocessing: Preprocessing, processor: Any) -> str:
    """One sentence where the prompt that was trained on is rendered differently now; "" where it is the same."""
    example = preprocessing.prompt_example
    if example is None:
        return ""
    import transformers

    clips = [Clip(np.zeros((*map(int, shape), 3), np.uint8), fps) for *shape, fps in example["videos"]]
    record = {"id": "example", "video": ["black"] * len(clips), "conversations": example["conversations"]}
    sample = build_inputs(record, processor, preprocessing, with_answer=False, clips=clips)
    now = hash_prompt(sample, processor.tokenizer)
    if now == preprocessing.prompt_hash:
        return ""
    return (
        f"the prompt is not rendered as in training (hash {now}, then {preprocessing.prompt_hash}): the model was "
        f"trained under transformers {preprocessing.transformers_version}, this is {transformers.__version__}; "
        "install that version, or take the processor files that were saved with the weights"
    )
