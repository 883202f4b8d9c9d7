"""Folders of PNG or JPEG pictures, one file a frame."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from driving.errors import VideoError

PNG_TAIL_BYTES = 1024  # the last chunk is IEND; a few bytes may follow it
# Where a PNG may say how it is to be turned.
PNG_ORIENTATION_MARKS = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
QUARTER_TURNS = (5, 6, 7, 8)  # the EXIF orientations that swap height and width
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def list_pictures(folder: Path) -> tuple[str, ...]:
    """The names of a folder's pictures in the order in which they were recorded: the one owner of that order.

    By number where all are named by one (9.png before 10.png), else by name. Hidden files (a Mac's ._1.png) are no
    pictures.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."]
    files.sort(key=lambda path: path.name)
    if all(path.stem.isdecimal() for path in files):
        files.sort(key=lambda path: int(path.stem))
    return tuple(path.name for path in files)


def check_picture(path: Path) -> None:
    """Raise where a picture's header, or the end of a PNG, is not there; its pixels are not looked at.

    Raises:
        VideoError: The file is missing, empty, no picture, or a PNG that is cut short.
    """
    with _explain_picture(path), path.open("rb") as file:
        num_bytes = file.seek(0, os.SEEK_END)
        if num_bytes == 0:
            raise VideoError(f"{path} is empty; download it again")
        file.seek(max(0, num_bytes - PNG_TAIL_BYTES))
        tail = file.read()
        file.seek(0)
        with Image.open(file) as picture:  # reads the header only
            is_cut = picture.format == "PNG" and b"IEND" not in tail
    if is_cut:
        raise VideoError(f"{path} is cut short: a PNG's end is missing; download it again")


def probe_picture(path: Path) -> tuple[int, int]:
    """Height and width in px of a picture as `read_picture` gives it, from its header; no pixel is decoded.

    Raises:
        VideoError: The file is missing, is no picture, or has more than 8 bits a sample.
    """
    with _explain_picture(path), Image.open(path) as picture:
        _check_depth(picture, path)
        width, height = picture.size
        is_turned = height != width and _read_orientation(picture, path) in QUARTER_TURNS
    return (width, height) if is_turned else (height, width)


def _read_orientation(picture: Image.Image, path: Path) -> int:
    """The EXIF orientation; 1 where none is given. Pillow would decode a PNG to look for one behind its pixels."""
    if picture.format == "PNG" and not any(mark in path.read_bytes() for mark in PNG_ORIENTATION_MARKS):
        return 1
    return picture.getexif().get(ExifTags.Base.Orientation, 1)


def read_picture(path: Path) -> np.ndarray:
    """Read one picture as it is meant to be seen: (H, W, 3) uint8 RGB, grey repeated, EXIF rotation applied.

    Raises:
        VideoError: The file is missing, is no picture, is cut short, or has more than 8 bits a sample.
    """
    with _explain_picture(path), Image.open(path) as picture:
        _check_depth(picture, path)
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _check_depth(picture: Image.Image, path: Path) -> None:
    if picture.mode.startswith(("I", "F")):
        raise VideoError(f"{path} has more than 8 bits a sample ({picture.mode}); convert it to 8 bits")


@contextlib.contextmanager
def _explain_picture(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise VideoError(f"{path} is missing; download the recording again") from None
    except UnidentifiedImageError:
        raise VideoError(f"{path} is not a picture; download it again") from None
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG chunk
        raise VideoError(f"{path} cannot be read as a picture ({error}); download it again") from error
