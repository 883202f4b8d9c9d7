"""What the text of a flag may be: numbers within bounds, refused when the command line is read."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

MAX_FRAME_PIXELS = 33_554_432  # 8K; more is a slip of the keyboard


def whole_number(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from `minimum` up (to `maximum`)."""
    bounds = f"of {minimum:,} or more" if maximum is None else f"from {minimum:,} to {maximum:,}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < minimum or (maximum is not None and value > maximum):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
        return value

    return parse


def number(minimum: float, maximum: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A parser of finite numbers from `minimum` (`above` it, where it says so) to `maximum`."""
    bounds = f"above {minimum:g}" if above else f"of {minimum:g} or more"
    if maximum < math.inf:
        bounds += f", at most {maximum:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        is_in = math.isfinite(value) and minimum <= value <= maximum and not (above and value == minimum)
        if not is_in:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return value

    return parse


def parse_pixels(text: str) -> int:
    """A number of pixels, also as a product: 1024*28*28."""
    product = 1
    for factor in text.replace("x", "*").replace("\u00d7", "*").split("*"):
        if not (factor.strip().isascii() and factor.strip().isdigit()):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels, such as 114688 or 1024*28*28")
        product *= int(factor)
    return product


def parse_auto_tokens(text: str) -> int | str:
    """`auto` stays, anything else is a number."""
    return text if text == "auto" else whole_number(1)(text)


def parse_device(text: str) -> str:
    """auto, cpu, cuda, or cuda:N."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N")
    return text


parse_count = whole_number(0)
parse_share = number(0, 1)
parse_frame_pixels = whole_number(32 * 32, MAX_FRAME_PIXELS)
