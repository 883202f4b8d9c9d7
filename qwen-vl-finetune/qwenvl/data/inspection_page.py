"""One self-contained HTML page: the shown samples with their frames, supervised text in colour, and the report."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from qwenvl.data.dataset import BadSample, DrivingDataset
from qwenvl.data.inspection import Inspection
from qwenvl.data.inspection_report import format_inspection
from qwenvl.data.preview import format_facts, list_runs

FRAMES_SHOWN = 4  # of each clip: the first, the last and two between
MAX_CHARS = 4_000
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f4; padding: .8rem; border-radius: 4px }
mark { background: #cdeccd; color: inherit } .visual { color: #777 } .bad { color: #a00 }
img { max-width: 24%; image-rendering: pixelated; margin-right: .3% }
"""


def format_page(
    title: str,
    samples: Sequence[tuple[int, Any]],
    dataset: DrivingDataset,
    inspection: Inspection,
    refusals: Sequence[str],
) -> str:
    """The page as text; everything that comes from the dataset is escaped."""
    verdict = "cannot be trained on" if refusals else "can be trained on"
    body = [f"<h1>{html.escape(title)} {verdict}</h1>"]
    body += [f'<p class="bad">{html.escape(reason)}</p>' for reason in refusals]
    body.append(f"<pre>{html.escape(format_inspection(inspection))}</pre>")
    body.append("<h2>Rows as the loss sees them</h2><p>What is <mark>marked</mark> is supervised.</p>")
    for index, sample in samples:
        body.append(_format_row(index, sample, dataset.processor.tokenizer))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


def _format_row(index: int, sample: Any, tokenizer: Any) -> str:
    if isinstance(sample, BadSample):
        return f'<h3>Row {index:,}</h3><p class="bad">{html.escape(f"{sample.id}: {sample.reason}")}</p>'
    frames = [frame for clip in sample["videos"] for frame in _spread(clip)]
    frames += [image[0] for image in sample["images"]]
    pictures = "".join(f'<img alt="frame" src="data:image/png;base64,{_encode_png(frame)}">' for frame in frames)
    text = ""
    for run in list_runs(sample, tokenizer, MAX_CHARS):
        words = html.escape(run.text)
        text += (
            f"<mark>{words}</mark>"
            if run.is_supervised
            else f'<span class="visual">{words}</span>'
            if run.is_visual
            else words
        )
    return f"<h3>Row {index:,}</h3><p>{html.escape(format_facts(sample))}</p>{pictures}<pre>{text}</pre>"


def _spread(clip: Any) -> list[Any]:
    """Frames (H, W, 3) from the first to the last of a clip (F, H, W, 3)."""
    last = len(clip) - 1
    places = dict.fromkeys(round(last * step / (FRAMES_SHOWN - 1)) for step in range(FRAMES_SHOWN))
    return [clip[place] for place in places]


def _encode_png(frame: Any) -> str:
    """A uint8 frame (H, W, 3) as base64 text."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame.numpy()).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
