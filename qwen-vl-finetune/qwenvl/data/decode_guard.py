"""Decoding in a child process that can be killed: a hang inside a decoder cannot be interrupted from Python.

    read(record, ...) ──request, slot──▶ child: decode ──frames into the slot of shared memory──▶ read
                      ◀──shapes, places, or the error── (pipe)
    silence for limit_s ──▶ kill -9, a new child, twice more ──▶ DecodeHangError: the run stops with the row's name
    the child crashed   ──▶ a new child, once more           ──▶ VideoError: the row goes to the ledger

One child for each process that decodes, forked at its first clip and kept. Frames are not copied on their way: they are
decoded into the shared memory, the arrays handed out lie there, and a slot is used again when its array is gone. The
memory is an anonymous map, not /dev/shm, and is made before the fork: a clip too large for a slot gets a new child with
larger ones.
"""

from __future__ import annotations

import contextlib
import gc
import math
import mmap
import multiprocessing
import os
import signal
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from driving.errors import DrivingError, VideoError
from driving.records import media_paths, record_name
from qwenvl.data.child_process import (
    CRASH_SIGNALS,
    crash_silently,
    die_with_parent,
    hold_stop_signals,
    keep_freed_memory,
)
from qwenvl.data.frame_cache import Clip

LIMIT_S = 30.0
NUM_TRIES_HUNG = 3
NUM_TRIES_CRASHED = 2
NUM_SLOTS = 8  # clips that a process holds at once without a copy: a batch, and the one before it on its way out
SLOT_BYTES = 16 * 2**20  # 30 frames of 256x448 px are 10.3 MB; untouched memory costs nothing
GROWTH = 1.25
REAP_LIMIT_S = 5.0  # a killed process may be stuck in the kernel, on a dead network disk

Reader = Callable[..., list[Clip]]


class DecodeHangError(VideoError):
    """A file whose decoding does not end, again and again. Not a fault to skip: it may be the disk, for every row."""


class DecodeGuard:
    """Calls `read` in a child process and gives up on it after `limit_s`.

    Made before the loader's workers; each of them starts a child of its own. Not for several threads at once.

    Args:
        read: (record, ..., allocate) -> clips; its arguments and errors cross a pipe. Frames written to what `allocate`
            gives for a shape are not copied; any others are, once.
    """

    def __init__(self, read: Reader, limit_s: float = LIMIT_S) -> None:
        self._read = read
        self.limit_s = limit_s
        self._slot_bytes = SLOT_BYTES
        self._child: _Child | None = None

    def read(self, record: dict[str, Any], *args: Any) -> list[Clip]:
        """`read(record, *args)`, in the child.

        Raises:
            DecodeHangError: It did not end within the limit, or was killed from outside, three times.
            VideoError: It crashed twice; or whatever `read` raised.
        """
        num_hung = num_crashed = 0
        while True:
            child = self._start()
            try:
                answer = child.ask((record, *args), self.limit_s)
            except _SilentError:
                trouble = f"took longer than {self.limit_s:g} s"
                num_hung += 1
            except _EndedError:
                trouble = f"was ended by {_name_signal(child.exit_code)}"
                is_crash = -child.exit_code in CRASH_SIGNALS
                num_crashed, num_hung = num_crashed + is_crash, num_hung + (not is_crash)
            else:
                if not isinstance(answer, _TooLarge):
                    return answer
                self._slot_bytes = int(answer.num_bytes * GROWTH)
                self.stop()
                continue
            if num_crashed == NUM_TRIES_CRASHED:
                raise VideoError(
                    f"decoding {_list_files(record)} {trouble}, twice: the file crashes the decoder; convert it again, "
                    "or take it out"
                )
            if num_hung == NUM_TRIES_HUNG:
                raise DecodeHangError(
                    f"{record_name(record)}: decoding {_list_files(record)} {trouble}, {num_hung} times; see whether "
                    "the file plays, its disk answers and memory is free, then run the same command again (on a slow "
                    "machine with more --decode_limit_s)"
                )

    def _start(self) -> _Child:
        if self._child is not None and not self._child.is_ready():
            self.stop()
        if self._child is None:
            self._child = _Child(self._read, self._slot_bytes)
        return self._child

    def stop(self) -> None:
        """End the child; the next clip starts another."""
        if self._child is not None:
            self._child.stop()
            self._child = None


class _SilentError(Exception):
    """The child said nothing within the limit."""


class _EndedError(Exception):
    """The child is no more."""


class _TooLarge(NamedTuple):
    """The child's answer where the frames do not fit into a slot."""

    num_bytes: int


class _Placed(NamedTuple):
    """Where a clip lies in its slot."""

    offset: int
    shape: tuple[int, ...]
    fps: float


class _Child:
    """One forked process, its pipe and its shared memory.

    Attributes:
        exit_code: as Python writes it, -9 for SIGKILL; 0 while it runs or where it is not known.
    """

    def __init__(self, read: Reader, slot_bytes: int) -> None:
        import video_io.clips
        import video_io.decode
        import video_io.probe  # noqa: F401 - before the fork: each child would load them again

        self.exit_code = 0
        self._slot_bytes = slot_bytes
        self._memory = memoryview(mmap.mmap(-1, NUM_SLOTS * slot_bytes))
        self._free = list(range(NUM_SLOTS))
        self._owner = os.getpid()
        self._pipe, far_end = multiprocessing.Pipe()
        with hold_stop_signals(), warnings.catch_warnings():
            # Python 3.12 warns of locks that other threads hold. A child that meets one is a hang, and is replaced.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
            if pid == 0:
                try:
                    self._pipe.close()
                    _serve(far_end, read, self._memory, slot_bytes, self._owner)
                finally:
                    os._exit(1)
            self._end = weakref.finalize(self, _end_process, pid, self._owner, self._pipe)
        far_end.close()

    def is_ready(self) -> bool:
        """False for another process's child, inherited by a fork, and for one that ended between two clips."""
        return self._owner == os.getpid() and self._end.alive and not self._pipe.poll(0)

    def ask(self, request: tuple, limit_s: float) -> list[Clip] | _TooLarge:
        """The child's answer to one request; the child is ended where there is none.

        Raises:
            _SilentError, _EndedError: There is none.
            Exception: What the reader raised.
        """
        slot = self._free.pop()  # at once: another thread, sending a batch off, gives slots back meanwhile
        answer = None
        try:
            self._pipe.send((slot, request))
            if not self._pipe.poll(limit_s):
                raise _SilentError
            answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise _EndedError from error
        finally:
            if answer is None:  # Ctrl-C, too: a late answer must not be taken for the next one
                self.stop()
        if isinstance(answer, BaseException):
            self._free.append(slot)
            raise answer
        return answer if isinstance(answer, _TooLarge) else self._take(slot, answer)

    def _take(self, slot: int, placed: Sequence[_Placed]) -> list[Clip]:
        """The clips in a slot: where they lie, or copied when no other slot would be left."""
        start = slot * self._slot_bytes
        # numpy gives every view the first array as its base: this object lives as long as any of them, with its slot.
        root = np.frombuffer(self._memory[start : start + self._slot_bytes], np.uint8)
        views = [root[one.offset :][: math.prod(one.shape)].reshape(one.shape) for one in placed]
        if self._free:
            weakref.finalize(root, self._free.append, slot).atexit = False
        else:
            views = [view.copy() for view in views]
            self._free.append(slot)
        return [Clip(view, one.fps) for view, one in zip(views, placed, strict=True)]

    def stop(self) -> None:
        """Kill the child and take its exit code; calling it again changes nothing."""
        exit_code = self._end()
        self.exit_code = self.exit_code if exit_code is None else exit_code


def _end_process(pid: int, owner: int, pipe: Connection) -> int:
    pipe.close()
    if os.getpid() != owner:
        return 0  # a fork's copy
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    limit_s = time.monotonic() + REAP_LIMIT_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < limit_s:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
    return 0


def _serve(pipe: Connection, read: Reader, memory: memoryview, slot_bytes: int, owner: int) -> None:
    """The child: answer requests until the pipe ends. Never returns."""
    die_with_parent(owner)
    crash_silently()
    keep_freed_memory()
    gc.freeze()  # what was inherited is the parent's to clean up: some of it may lie on a GPU
    while True:
        try:
            slot, request = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        room = _Room(memory[slot * slot_bytes : (slot + 1) * slot_bytes])
        try:
            clips = read(*request, allocate=room.allocate)
            answer: Any = room.place(clips)
        except DrivingError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - raised again by the parent
            error.add_note(f"in the decoding process:\n{traceback.format_exc()}")
            answer = error
        pipe.send(answer)


class _Room:
    """A slot of the shared memory, from the child's side: arrays are laid into it one after the other."""

    def __init__(self, slot: memoryview) -> None:
        self._bytes = np.frombuffer(slot, np.uint8)
        self._num_asked = 0  # bytes, whether they fitted or not

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """(shape) uint8 in the slot; elsewhere where it is full."""
        start, self._num_asked = self._num_asked, self._num_asked + math.prod(shape)
        if self._num_asked > len(self._bytes):
            return np.empty(shape, np.uint8)
        return self._bytes[start : self._num_asked].reshape(shape)

    def place(self, clips: Sequence[Clip]) -> list[_Placed] | _TooLarge:
        """Where each clip lies in the slot; those that do not yet are copied there."""
        placed = []
        for clip in clips:
            frames = clip.frames
            if not (frames.flags.c_contiguous and np.may_share_memory(frames, self._bytes)):
                frames = self.allocate(clip.frames.shape)
                frames[:] = clip.frames
            placed.append(_Placed(frames.ctypes.data - self._bytes.ctypes.data, frames.shape, clip.fps))
        return _TooLarge(self._num_asked) if self._num_asked > len(self._bytes) else placed


def _list_files(record: dict[str, Any]) -> str:
    return ", ".join(media_paths(record, "video"))


def _name_signal(exit_code: int) -> str:
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"exit code {exit_code}"
