"""One question about one clip as a chat completion of an OpenAI-compatible server, with the preprocessing of training.

    record, clips ──build_body──▶ {"messages", "media_io_kwargs", "mm_processor_kwargs", ...}

The clip is sent as the very frames that the model would see here, lossless, so that the server has nothing to sample
and nothing to resize. vLLM takes frames as `data:video/jpeg;base64,` with commas between them, and opens each by its
own bytes, PNG as well. It must be told three things, or it does otherwise: how many frames a second these are (else 1),
that all are to be kept (else 32), and that the processor leaves rate and size alone.

Source: vLLM's documentation of `vllm.multimodal.media.video` (VideoMediaIO) and of `ChatCompletionRequest`
(media_io_kwargs, mm_processor_kwargs), 0.22 to 0.26; frames with their own rate: pull requests 37301 and 40133.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.errors import DrivingError
from driving.records import messages_from_record, record_name

JPEG_QUALITY = 95


def build_body(
    record: dict[str, Any],
    clips: Sequence[Any],
    *,
    model: str,
    max_tokens: int,
    pictures: str = "png",
) -> dict[str, Any]:
    """The JSON body of a request, greedy and without streaming.

    Args:
        clips: frames (T, H, W, 3) uint8 and fps, at the size and rate that the checkpoint was trained with.
        model: name under which the server knows the model.
        max_tokens: of the answer.
        pictures: "png" is what the model would see here; "jpeg" is smaller and changes the pixels a little.

    Raises:
        DrivingError: The record shows still images, or clips of several rates, which one request cannot say.
    """
    rates = sorted({float(clip.fps) for clip in clips})
    if record.get("image"):
        raise DrivingError(f"{record_name(record)} shows still images; only clips can be asked about through a server")
    if len(rates) > 1:
        raise DrivingError(
            f"{record_name(record)} shows clips of {rates[0]:g} and {rates[-1]:g} frames a second; a request tells one "
            "rate for all"
        )
    body: dict[str, Any] = {
        "model": model,
        "messages": build_served_messages(record, clips, pictures),
        "stream": False,
        "max_completion_tokens": max_tokens,
        # Greedy, and nothing of the model's generation_config.json, which the server applies where we say nothing.
        "temperature": 0.0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "return_token_ids": True,
        "mm_processor_kwargs": {"do_sample_frames": False, "do_resize": False},
    }
    if rates:
        body["media_io_kwargs"] = {"video": {"fps": rates[0], "num_frames": -1}}
    return body


def build_served_messages(record: dict[str, Any], clips: Sequence[Any], pictures: str = "png") -> list[dict[str, Any]]:
    """The turns before the answer, the clips as data addresses."""
    waiting = iter(clips)
    messages = []
    for message in messages_from_record(record):
        if message["role"] == "assistant":
            break
        content = [
            {"type": "video_url", "video_url": {"url": encode_clip(next(waiting).frames, pictures)}}
            if part["type"] == "video"
            else part
            for part in message["content"]
        ]
        is_text = len(content) == 1 and content[0]["type"] == "text"
        messages.append({"role": message["role"], "content": content[0]["text"] if is_text else content})
    return messages


def encode_clip(frames: np.ndarray, pictures: str = "png") -> str:
    """(T, H, W, 3) uint8 -> "data:video/jpeg;base64,<picture>,<picture>,..."; the type is vLLM's name for frames."""
    return "data:video/jpeg;base64," + ",".join(_encode_picture(frame, pictures) for frame in frames)


def _encode_picture(frame: np.ndarray, pictures: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    if pictures == "png":
        Image.fromarray(frame).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
