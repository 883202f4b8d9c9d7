import numpy as np
import pytest

from driving.errors import VideoError
from driving.recording import VideoAddress
from driving.whole_files import write_atomically
from video_io import check_copyable, copy_range, decode_frames, probe_video

OPEN_GROUPS = {"bf": "3", "b_adapt": "0", "x264-params": "open-gop=1:keyint=12:min-keyint=1"}


def copy(address, start, num_frames, path):
    with write_atomically(path) as file:
        copy_range(address, probe_video(address), start, num_frames, file)
    return VideoAddress(str(path))


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}])
def test_a_copied_range_holds_the_same_pixels(tmp_path, draw_video, options):
    address = draw_video(30, key_interval=10, options=options)
    copied = copy(address, 10, 10, tmp_path / "copy.mp4")
    assert np.array_equal(decode_frames(copied, range(10)), decode_frames(address, range(10, 20)))


def test_the_first_copied_frame_is_shown_at_zero(tmp_path, draw_video):
    copied = copy(draw_video(30, key_interval=10, options={"bf": "2"}), 10, 5 + 5, tmp_path / "copy.mp4")
    assert probe_video(copied).frame_times_us.tolist()[:3] == [0, 33333, 66667]


def test_copying_twice_gives_the_same_bytes(tmp_path, draw_video):
    address = draw_video(20, key_interval=10)
    copy(address, 10, 10, tmp_path / "a.mp4")
    copy(address, 10, 10, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_range_that_starts_between_key_frames_cannot_be_copied(tmp_path, draw_video):
    address = draw_video(20, key_interval=10)
    assert not check_copyable(probe_video(address), 5, 10)
    with pytest.raises(VideoError, match="frames 5 to 15 do not stand alone"):
        copy(address, 5, 10, tmp_path / "copy.mp4")


def test_frames_without_b_frames_may_end_anywhere(draw_video):
    assert check_copyable(probe_video(draw_video(20, key_interval=10, options={"bf": "0"})), 10, 7)


def test_a_b_frame_that_leans_on_a_frame_outside_forbids_copying(draw_video):
    # Decode order 0 3 1 2 6 4 5 9 ...: frames 0 and 1 need packet 0, 3 and 1.
    info = probe_video(draw_video(20, key_interval=20, options={"bf": "2", "b_adapt": "0", "b_pyramid": "none"}))
    assert info.decode_order.tolist()[:4] == [0, 3, 1, 2]
    assert [n for n in range(1, 8) if check_copyable(info, 0, n)] == [1, 4, 7]


def test_an_open_group_of_pictures_is_not_copied(draw_video):
    info = probe_video(draw_video(60, options=OPEN_GROUPS))
    keys = np.flatnonzero(info.is_key_frame)
    assert not check_copyable(info, int(keys[1]), int(keys[2] - keys[1]))
