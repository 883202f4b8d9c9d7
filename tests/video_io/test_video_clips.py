import pytest

from driving.errors import VideoError
from video_io import read_clip


def test_a_file_of_exactly_the_wanted_frames_is_read_whole(draw_video, read_numbers):
    # Its rate does not matter: a segment file is its frames.
    frames = read_clip(draw_video(10, fps=7).path, fps=30, num_frames=10)
    assert read_numbers(frames) == list(range(10))


def test_a_part_is_read_by_the_times_of_the_file(draw_video, read_numbers):
    frames = read_clip(draw_video(60).path, fps=30, num_frames=5, start_s=1.0, stop_s=1.2)
    assert read_numbers(frames) == [30, 31, 32, 33, 34]


def test_a_lower_rate_takes_every_third_frame(draw_video, read_numbers):
    assert read_numbers(read_clip(draw_video(60).path, fps=10, num_frames=5, start_s=0.5)) == [15, 18, 21, 24, 27]


def test_frames_can_be_named_by_number(draw_video, read_numbers):
    frames = read_clip(draw_video(60).path, fps=30, num_frames=3, frame_indices=[8, 9, 11], size=(32, 32))
    assert frames.shape == (3, 32, 32, 3)
    assert read_numbers(frames) == [8, 9, 11]


def test_naming_another_number_of_frames_is_refused(draw_video):
    with pytest.raises(VideoError, match="the row lists 2 frames, 3 were asked for"):
        read_clip(draw_video(10).path, fps=30, num_frames=3, frame_indices=[8, 9])


def test_a_clip_that_ends_early_says_by_how_much(draw_video):
    with pytest.raises(VideoError, match=r"from 0\.000 s to 1\.300 s .* missed by \d+\.\d ms, 25\.0 ms are allowed"):
        read_clip(draw_video(40).path, fps=30, num_frames=30, start_s=1.0)


def test_a_clip_with_too_few_frames_says_so(draw_video):
    with pytest.raises(VideoError, match="has 20 frames, 30 were asked for"):
        read_clip(draw_video(20).path, fps=30, num_frames=30)


def test_frames_that_do_not_fit_the_part_are_refused(draw_video):
    with pytest.raises(VideoError, match=r"30 frames at 30 fps do not fit into 0\.500 to 1\.000 s"):
        read_clip(draw_video(40).path, fps=30, num_frames=30, start_s=0.5, stop_s=1.0)


def test_a_slow_video_cannot_give_a_fast_clip(draw_video):
    with pytest.raises(VideoError, match=r"at 10\.00 fps; the grid of 12 frames at 30 fps"):
        read_clip(draw_video(40, fps=10).path, fps=30, num_frames=12)
