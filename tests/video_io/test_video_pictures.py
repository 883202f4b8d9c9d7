import numpy as np
import pytest
from PIL import Image

from driving.errors import VideoError
from driving.recording import VideoAddress
from video_io import decode_frames, probe_video, read_clip


@pytest.fixture
def pictures(tmp_path):
    for index in range(5):
        Image.fromarray(np.full((37, 53), 8 + 4 * index, np.uint8)).save(tmp_path / f"{index:06d}.png")
    return VideoAddress(str(tmp_path), frames=tuple(f"{index:06d}.png" for index in range(5)))


def test_a_folder_of_grey_pictures_reads_like_a_video(pictures, read_numbers):
    frames = decode_frames(pictures, [4, 1])
    assert frames.shape == (2, 37, 53, 3)
    assert read_numbers(frames) == [4, 1]


def test_a_folder_tells_size_and_number_but_no_times(pictures):
    info = probe_video(pictures)
    assert (info.num_frames, info.height, info.width, info.frame_times_us) == (5, 37, 53, None)


def test_a_clip_of_a_folder_is_named_by_frame_numbers(pictures, read_numbers):
    frames = read_clip(pictures.path, fps=10, num_frames=2, frame_indices=[2, 3], size=(32, 32))
    assert read_numbers(frames) == [2, 3]


def test_a_folder_without_numbers_cannot_be_cut_by_time(pictures):
    with pytest.raises(VideoError, match="holds 5 frames without times; 2 were asked for"):
        read_clip(pictures.path, fps=10, num_frames=2, start_s=0.0)


def test_a_broken_picture_is_named(pictures, tmp_path):
    path = tmp_path / "000003.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoError, match=r"000003\.png (cannot be read as|is not) a picture|000003\.png is cut short"):
        decode_frames(pictures, [3])


def test_a_missing_picture_is_named(pictures, tmp_path):
    (tmp_path / "000003.png").unlink()
    with pytest.raises(VideoError, match=r"000003\.png is missing"):
        decode_frames(pictures, [3])


def test_a_sixteen_bit_picture_is_refused(pictures, tmp_path):
    Image.fromarray(np.full((37, 53), 3000, np.uint16)).save(tmp_path / "000003.png")
    with pytest.raises(VideoError, match="more than 8 bits a sample"):
        decode_frames(pictures, [3])


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(VideoError, match="is a folder without pictures"):
        read_clip(tmp_path, fps=10, num_frames=2)


def test_real_kitti_frames(shared_data):
    folder = shared_data / "kitti_odometry_06" / "image_l"
    frames = read_clip(folder, fps=10, num_frames=2, frame_indices=[0, 50], size=(192, 608))
    assert frames.shape == (2, 192, 608, 3)
    assert np.array_equal(frames[..., 0], frames[..., 2])  # grey


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda data: b"", "000003.png is empty"),
        (lambda data: data[:40], "000003.png (is not a picture|is cut short)"),
        (lambda data: data[:-12], "000003.png is cut short: a PNG's end is missing"),
        (lambda data: b"text", "000003.png is not a picture"),
    ],
)
def test_a_damaged_picture_is_found_without_looking_at_pixels(pictures, tmp_path, damage, complaint):
    path = tmp_path / "000003.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(VideoError, match=complaint):
        probe_video(pictures)
