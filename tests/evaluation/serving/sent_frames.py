"""The frames that a request carries."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def open_frames(body: dict[str, Any]) -> np.ndarray:
    """(T, H, W, 3) of the clip in the body's last turn, read by Pillow as vLLM does."""
    url = body["messages"][-1]["content"][0]["video_url"]["url"]
    head, _, data = url.partition(",")
    assert head == "data:video/jpeg;base64"
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in data.split(",")])
