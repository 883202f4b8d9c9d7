"""The other libraries that can decode, where one is asked for. PyAV is the default, and the measure.

    VideoAddress + frame indices ──torchcodec | decord | nvdec──▶ iter_pictures ──▶ (index, rgb24 frame, upright)

Which frames there are, and when, is always what `probe_video` says; a library that numbers or times a file's frames
otherwise is refused for that file. So is one whose first or last picture is not PyAV's: no library tells what it did
about rotation, range or depth, or that it left a damaged frame out. Eight-bit pictures are the same to the bit; deeper
ones are rounded in other ways.

nvdec is torchcodec on the GPU. It has not been run: no test covers it, and no figure is claimed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import BinaryIO, NamedTuple, TypeVar

import av
import numpy as np

from driving.clock import US_PER_S
from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io.address import open_address
from video_io.probe import VideoInfo

PYAV = "pyav"
DECODERS = (PYAV, "torchcodec", "decord", "nvdec")
BATCH_FRAMES = 16  # asked for at once: 100 MB at 1080p
MAX_TIME_ERROR_US = 1000  # decord tells seconds in 32 bits, good to 0.5 ms within two hours
# Levels of 255, the mean of the worst channel; measured: 0 at 8 bits, 3.2 above. nvdec has not been measured.
MAX_DIFFERENCE = 0.5
MAX_DIFFERENCE_DEEP = 5.0

Answer = TypeVar("Answer")


class _Reader(NamedTuple):
    """An open library: how many frames it finds, and a way to some of them."""

    num_frames: int
    read: Callable[[list[int]], tuple[np.ndarray, np.ndarray]]  # ──▶ (N, H, W, 3) uint8, (N,) seconds


def check_decoder(decoder: str) -> None:
    """Raise VideoError, saying what to do, unless the library of that name can be used here."""
    if decoder not in DECODERS:
        raise VideoError(f"there is no decoder {decoder!r}; choose one of {', '.join(DECODERS)}")
    if decoder == "decord":
        _load("decord", decoder)
    elif decoder in ("torchcodec", "nvdec"):
        _load("torchcodec.decoders", decoder)
        _check_ffmpeg(decoder)
    if decoder == "nvdec" and not _load("torch", decoder).cuda.is_available():
        raise VideoError("the decoder nvdec needs an NVIDIA GPU and torch finds none; use torchcodec or pyav")


def iter_pictures(
    address: VideoAddress,
    frame_indices: Sequence[int],
    *,
    info: VideoInfo,
    decoder: str,
    check: Callable[[int, np.ndarray], None],
    num_threads: int = 1,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (index, upright rgb24 frame) for strictly increasing indices, from another library than PyAV.

    Args:
        check: is shown the first and the last index and picture, (H, W, 3) uint8 RGB, before they are yielded, and
            raises where the picture is not what it should be.

    Raises:
        VideoError: The library is missing, cannot read the file, or has other frames or times than `info`.
    """
    check_decoder(decoder)
    if info.pts is None:
        raise VideoError(f"{address} is a bare stream without times, which only pyav can count; use --decoder pyav")
    wanted = list(frame_indices)
    open_reader = _open_decord if decoder == "decord" else _open_torchcodec
    with open_address(address) as place:
        reader = _ask(address, decoder, lambda: open_reader(place, decoder, num_threads))
        if reader.num_frames != info.num_frames:
            raise VideoError(
                f"{address} has {info.num_frames} frames, {decoder} finds {reader.num_frames}; use --decoder pyav"
            )
        for start in range(0, len(wanted), BATCH_FRAMES):
            batch = wanted[start : start + BATCH_FRAMES]
            pictures, times_s = _ask(address, decoder, lambda batch=batch: reader.read(batch))
            _check_times(address, info, decoder, batch, times_s)
            for index, picture in zip(batch, pictures, strict=True):
                if index in (wanted[0], wanted[-1]):
                    check(index, picture)
                yield index, av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")


def check_alike(address: VideoAddress, decoder: str, seen: np.ndarray, expected: np.ndarray, num_bits: int) -> None:
    """Raise VideoError unless two pictures, (H, W, 3) uint8, have one size and nearly one content.

    Args:
        num_bits: of a sample of the video.
    """
    limit = MAX_DIFFERENCE if num_bits == 8 and decoder != "nvdec" else MAX_DIFFERENCE_DEEP
    if seen.shape != expected.shape:
        raise VideoError(
            f"{address}: {decoder} gives a picture of {seen.shape[0]}x{seen.shape[1]}, pyav one of "
            f"{expected.shape[0]}x{expected.shape[1]}; use --decoder pyav"
        )
    worst = np.abs(seen.astype(np.int16) - expected).mean(axis=(0, 1)).max()
    if worst > limit:
        raise VideoError(
            f"{address}: the picture of {decoder} differs from pyav's by {worst:.1f} levels of 255 on average, "
            f"{limit:g} are allowed; use --decoder pyav"
        )


def _check_times(address: VideoAddress, info: VideoInfo, decoder: str, indices: list[int], times_s: np.ndarray) -> None:
    # decord counts from the first frame, whatever the container says of it.
    expected_us = info.frame_times_us[indices] - (info.frame_times_us[0] if decoder == "decord" else 0)
    wrong = np.flatnonzero(np.abs(times_s * US_PER_S - expected_us) > MAX_TIME_ERROR_US)
    if len(wrong):
        place = wrong[0]
        raise VideoError(
            f"{address}: {decoder} shows frame {indices[place]} at {times_s[place]:.3f} s, the container at "
            f"{expected_us[place] / US_PER_S:.3f} s; use --decoder pyav"
        )


def _open_decord(place: str | BinaryIO, decoder: str, num_threads: int) -> _Reader:
    library = _load("decord", decoder)
    video = library.VideoReader(place, ctx=library.cpu(0), num_threads=num_threads)
    first_s = video.get_frame_timestamp(0)[0]
    position = 0

    def read(indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        # Every frame on the way, too: its seek shows a wrong frame where a group of pictures is open (HEVC).
        nonlocal position
        times_s = np.array([video.get_frame_timestamp(index)[0] - first_s for index in indices], np.float64)
        pictures = []
        while position <= indices[-1]:
            run = list(range(position, min(position + BATCH_FRAMES, indices[-1] + 1)))
            wanted = [index - position for index in run if index in indices]
            pictures.append(video.get_batch(run).asnumpy()[wanted])
            position = run[-1] + 1
        return np.concatenate(pictures), times_s

    return _Reader(len(video), read)


def _open_torchcodec(place: str | BinaryIO, decoder: str, num_threads: int) -> _Reader:
    video = _load("torchcodec.decoders", decoder).VideoDecoder(
        place,
        dimension_order="NHWC",
        num_ffmpeg_threads=num_threads,
        device="cuda" if decoder == "nvdec" else "cpu",
        seek_mode="exact",
    )

    def read(indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        frames = video.get_frames_at(indices)
        return frames.data.cpu().numpy(), frames.pts_seconds.cpu().numpy()

    return _Reader(len(video), read)


def _ask(address: VideoAddress, decoder: str, question: Callable[[], Answer]) -> Answer:
    """Call a library; its errors, of many kinds, become one line that names the file."""
    kinds: tuple[type[Exception], ...] = (RuntimeError, IndexError, ValueError)
    if decoder == "decord":
        kinds += (_load("decord", decoder).DECORDError,)
    try:
        return question()
    except kinds as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise VideoError(f"{address} cannot be read by {decoder} ({reason}); use --decoder pyav") from error


def _load(name: str, decoder: str) -> ModuleType:
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise VideoError(
            f"the decoder {decoder} needs the package {package}, which is not installed; "
            f"run `uv sync --inexact --extra {package}`, or leave --decoder out"
        ) from None
    except RuntimeError:
        raise _no_ffmpeg(decoder) from None


def _check_ffmpeg(decoder: str) -> None:
    """torchcodec brings no FFmpeg, and says so only when it opens a first file."""
    try:
        _load("torchcodec.decoders", decoder).VideoDecoder(b"no video")
    except ValueError:
        return  # it was opened, and is no video
    except RuntimeError as error:
        if "libtorchcodec" in str(error):
            raise _no_ffmpeg(decoder) from None


def _no_ffmpeg(decoder: str) -> VideoError:
    return VideoError(
        f"the decoder {decoder} needs FFmpeg's shared libraries (libavcodec.so and its kin), and torchcodec finds none "
        "that fit; install FFmpeg (apt install ffmpeg), or leave --decoder out"
    )
