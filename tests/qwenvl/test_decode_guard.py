"""Decoding in a process that can be killed. The readers here say in `fps` which process they ran in."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from driving.errors import VideoError
from qwenvl.data.decode_guard import NUM_SLOTS, SLOT_BYTES, DecodeGuard, DecodeHangError
from qwenvl.data.frame_cache import Clip

LIMIT_S = 0.3


def row(shade: int = 0, num_bytes: int = 48) -> dict:
    return {"id": "clip07_seg_00", "video": "videos/07.mp4", "shade": shade, "num_bytes": num_bytes}


def read_grey(record, *args, allocate=None) -> list[Clip]:
    frames = np.full((1, 1, record["num_bytes"] // 3, 3), record["shade"], np.uint8)
    return [Clip(frames, float(os.getpid()))]


def hang() -> None:
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock held, as nothing in Python can end


def crash() -> None:
    ctypes.string_at(0)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail_in(tries: Path, num_failing: int, fail):
    """A reader that fails in its first tries; every try is a line of the file."""

    def read(record, *args, allocate) -> list[Clip]:
        with tries.open("a") as handle:
            handle.write("try\n")
        if len(tries.read_text().splitlines()) <= num_failing:
            fail()
        return read_grey(record)

    return read


def pid_of(clips: list[Clip]) -> int:
    return int(clips[0].fps)


def is_gone(pid: int, within_s: float = 5.0) -> bool:
    limit_s = time.monotonic() + within_s
    while Path(f"/proc/{pid}").exists() and time.monotonic() < limit_s:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def guard():
    guard = DecodeGuard(read_grey, LIMIT_S)
    yield guard
    guard.stop()


def test_clips_come_from_one_other_process_that_is_kept(guard):
    first, second = guard.read(row(7)), guard.read(row(8))
    assert pid_of(first) == pid_of(second) != os.getpid()
    assert (first[0].frames == 7).all() and (second[0].frames == 8).all()
    assert first[0].frames.shape == (1, 1, 16, 3)


def test_two_clips_of_a_row_come_in_order():
    guard = DecodeGuard(
        lambda record, allocate: [Clip(np.full((1, 2, 2, 3), shade, np.uint8), 1.0) for shade in (3, 4)]
    )
    assert [int(clip.frames.max()) for clip in guard.read(row())] == [3, 4]
    guard.stop()


def test_frames_written_where_the_guard_says_are_not_copied():
    def read(record, allocate):
        frames = allocate((1, 2, 2, 3))
        frames[:] = record["shade"]
        address = frames.ctypes.data
        return [Clip(frames, float(address))]

    guard = DecodeGuard(read)
    (clip,) = guard.read(row(9))
    assert (clip.frames == 9).all()
    assert clip.frames.ctypes.data == int(clip.fps)  # the map lies at one address in both processes
    guard.stop()


def test_frames_written_there_and_elsewhere_come_in_order():
    def read(record, allocate):
        there = [allocate((1, 2, 2, 3)) for _ in range(2)]
        for shade, frames in enumerate(there):
            frames[:] = shade
        turned = there[1][:, ::-1]  # a view that is no block of memory
        return [
            Clip(there[1], 1.0),
            Clip(np.full((1, 4, 4, 3), 7, np.uint8), 1.0),
            Clip(there[0], 1.0),
            Clip(turned, 1.0),
        ]

    guard = DecodeGuard(read)
    assert [int(clip.frames.min()) for clip in guard.read(row())] == [1, 7, 0, 1]
    guard.stop()


@pytest.mark.parametrize("is_written_there", [True, False])
def test_two_clips_that_fit_alone_but_not_together_get_more_room(is_written_there):
    def read(record, allocate):
        shape = (1, 1, SLOT_BYTES // 5, 3)
        clips = [allocate(shape) if is_written_there else np.empty(shape, np.uint8) for _ in range(2)]
        for shade, frames in enumerate(clips):
            frames[:] = shade
        return [Clip(frames, 1.0) for frames in clips]

    guard = DecodeGuard(read)
    assert [(int(clip.frames.min()), int(clip.frames.max())) for clip in guard.read(row())] == [(0, 0), (1, 1)]
    guard.stop()


def test_a_clip_that_is_too_large_for_its_room_gets_a_process_with_more(guard):
    small = guard.read(row(1))
    large = guard.read(row(2, num_bytes=SLOT_BYTES + 3))
    assert large[0].frames.nbytes == SLOT_BYTES + 2 and (large[0].frames == 2).all()
    assert pid_of(large) != pid_of(small) and is_gone(pid_of(small))
    assert (small[0].frames == 1).all()
    assert pid_of(guard.read(row(3))) == pid_of(large)


def test_clips_that_are_kept_are_never_written_over(guard):
    kept = [guard.read(row(shade)) for shade in range(3 * NUM_SLOTS)]
    assert [int(clips[0].frames.max()) for clips in kept] == list(range(3 * NUM_SLOTS))


def test_a_part_of_a_clip_keeps_the_whole_of_it(guard):
    part = guard.read(row(9))[0].frames[0, 0, 3:5].T
    for shade in range(3 * NUM_SLOTS):
        guard.read(row(shade))
    assert (part == 9).all()


def test_memory_is_used_again_when_its_clip_is_gone(guard):
    places = {guard.read(row())[0].frames.ctypes.data for _ in range(3 * NUM_SLOTS)}
    assert len(places) == 1


@pytest.mark.parametrize(("fail", "num_failing"), [(hang, 2), (kill_self, 2), (crash, 1)])
def test_a_trouble_that_passes_is_tried_again(fail, num_failing, tmp_path):
    guard = DecodeGuard(fail_in(tmp_path / "tries", num_failing, fail), LIMIT_S)
    assert (guard.read(row(5))[0].frames == 5).all()
    guard.stop()


def test_a_hang_is_ended_three_times_and_then_named_with_its_row_and_file(tmp_path):
    guard = DecodeGuard(fail_in(tmp_path / "tries", 99, hang), LIMIT_S)
    started_s = time.monotonic()
    with pytest.raises(
        DecodeHangError,
        match=r"clip07_seg_00: decoding videos/07.mp4 took longer than 0.3 s, 3 times; see whether the file plays",
    ):
        guard.read(row())
    assert 3 * LIMIT_S < time.monotonic() - started_s < 3 * LIMIT_S + 5
    assert (tmp_path / "tries").read_text().split() == ["try"] * 3


def test_a_file_that_crashes_the_decoder_twice_is_a_fault_of_that_file(tmp_path, capfd):
    guard = DecodeGuard(fail_in(tmp_path / "tries", 99, crash), LIMIT_S)
    with pytest.raises(VideoError, match=r"decoding videos/07.mp4 was ended by SIGSEGV, twice: .*; convert it again"):
        guard.read(row())
    assert (tmp_path / "tries").read_text().split() == ["try"] * 2
    assert capfd.readouterr().err == ""


def test_a_decoder_that_is_killed_from_outside_is_no_fault_of_its_file(tmp_path):
    guard = DecodeGuard(fail_in(tmp_path / "tries", 99, kill_self), LIMIT_S)
    with pytest.raises(
        DecodeHangError, match=r"decoding videos/07.mp4 was ended by SIGKILL, 3 times; .*memory is free"
    ):
        guard.read(row())


def test_what_the_reader_says_of_a_file_arrives_as_it_is():
    def refuse(record, allocate):
        raise VideoError("07.mp4 has zero bytes; download it again")

    guard = DecodeGuard(refuse)
    with pytest.raises(VideoError, match=r"^07.mp4 has zero bytes; download it again$"):
        guard.read(row())
    guard.stop()


@pytest.mark.parametrize("error", [ZeroDivisionError, EOFError, TimeoutError, ConnectionResetError])
def test_a_fault_of_ours_arrives_with_its_traceback_and_is_not_tried_again(error, tmp_path):
    def fail():
        raise error("here")

    guard = DecodeGuard(fail_in(tmp_path / "tries", 99, fail))
    with pytest.raises(error, match="here") as caught:
        guard.read(row())
    assert "test_decode_guard.py" in caught.value.__notes__[0]
    assert (tmp_path / "tries").read_text().split() == ["try"]
    guard.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_sigterm_to_the_group_leave_the_process_alone(number, guard):
    pid = pid_of(guard.read(row()))
    os.kill(pid, number)
    assert pid_of(guard.read(row())) == pid


def test_a_process_that_ended_between_two_clips_is_replaced_in_silence(guard):
    pid = pid_of(guard.read(row()))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid_of(guard.read(row(4))) != pid


def test_a_guard_that_is_gone_leaves_no_process_behind():
    guard = DecodeGuard(read_grey)
    pid = pid_of(guard.read(row()))
    del guard
    assert is_gone(pid)


def test_an_interrupted_wait_does_not_leave_its_answer_to_the_next_clip():
    def read(record, allocate):
        time.sleep(0.5 if record["shade"] == 1 else 0)
        return read_grey(record)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    guard = DecodeGuard(read)
    guard.read(row(0))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            guard.read(row(1))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (guard.read(row(2))[0].frames == 2).all()
    guard.stop()


def test_a_forked_process_decodes_in_a_child_of_its_own(guard):
    ours = pid_of(guard.read(row()))
    context = multiprocessing.get_context("fork")
    theirs = context.Queue()
    fork = context.Process(target=lambda: theirs.put(pid_of(guard.read(row()))))
    fork.start()
    found = theirs.get(timeout=120)
    fork.join()
    assert found not in (ours, os.getpid())
    assert is_gone(found)
    assert pid_of(guard.read(row())) == ours


@pytest.mark.parametrize("is_hanging", [False, True])
def test_the_process_dies_with_the_one_it_decodes_for(is_hanging, tmp_path):
    def read(record, allocate):
        (tmp_path / "pid").write_text(str(os.getpid()))
        return hang() if is_hanging else read_grey(record)

    def work():
        DecodeGuard(read).read(row())
        time.sleep(60)

    parent = multiprocessing.get_context("fork").Process(target=work)
    parent.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    parent.kill()
    parent.join()
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_thread_that_lets_clips_go_meanwhile_spoils_none(guard):
    """As a loader's worker does, whose queue sends a batch off while the next is decoded."""
    kept: queue.Queue = queue.Queue()
    wrong = []

    def look():
        while (one := kept.get()) is not None:
            shade, clips = one
            if not (clips[0].frames == shade).all():
                wrong.append(shade)
            del one, clips

    thread = threading.Thread(target=look)
    thread.start()
    for index in range(600):
        kept.put((index % 251, guard.read(row(index % 251, num_bytes=30_000))))
    kept.put(None)
    thread.join()
    assert wrong == []
