import av
import numpy as np
import pytest

from data_prep.segment_pixels import COPY, RESIZED, SegmentFile, copy_segments, encode_segments
from driving.recording import VideoAddress
from video_io import decode_frames, probe_video, read_clip, write_video
from video_io.decode_pyav import iter_decoded
from video_io.scale import FrameScaler, read_planes

FIRST_GREY, GREY_STEP = 8, 4


@pytest.fixture
def numbered(tmp_path):
    """A video of 50 frames, numbered by their grey level, with a key frame every ten."""
    path = tmp_path / "numbered.mp4"
    frames = (np.full((64, 96), FIRST_GREY + GREY_STEP * index, np.uint8) for index in range(50))
    write_video(path, frames, 30, crf=1, key_interval=10)
    return VideoAddress(str(path))


def read_numbers(path, num_frames):
    frames = read_clip(path, fps=30, num_frames=num_frames)
    return np.round((frames.mean((1, 2, 3)) - FIRST_GREY) / GREY_STEP).astype(int).tolist()


def resize(address, files, size=(32, 48)):
    encode_segments(address, probe_video(address), files, fps=30, size=size, encoding=RESIZED)


def test_each_segment_holds_exactly_its_frames(tmp_path, numbered):
    files = [
        SegmentFile(tmp_path / "a.mp4", np.arange(0, 20, 2)),
        SegmentFile(tmp_path / "b.mp4", np.arange(18, 38, 2)),  # shares frame 18 with the one before
        SegmentFile(tmp_path / "c.mp4", np.array([40, 41, 43, 49])),
    ]
    resize(numbered, files)
    assert read_numbers(tmp_path / "a.mp4", 10) == list(range(0, 20, 2))
    assert read_numbers(tmp_path / "b.mp4", 10) == list(range(18, 38, 2))
    assert read_numbers(tmp_path / "c.mp4", 4) == [40, 41, 43, 49]


def test_segments_have_the_size_asked_for_and_an_even_rate(tmp_path, numbered):
    resize(numbered, [SegmentFile(tmp_path / "a.mp4", np.array([0, 1, 5]))])
    info = probe_video(VideoAddress(str(tmp_path / "a.mp4")))
    assert (info.height, info.width) == (32, 48)
    assert info.frame_times_us.tolist() == [0, 33333, 66667]


def measure_psnr_db(address, path, size, indices):
    scale = FrameScaler(size, "yuv420p")
    before = [read_planes(scale(frame))[0] for _, frame in iter_decoded(address, indices, info=probe_video(address))]
    segment = VideoAddress(str(path))
    after = [
        read_planes(frame)[0] for _, frame in iter_decoded(segment, range(len(indices)), info=probe_video(segment))
    ]
    error = np.mean((np.array(before, float) - np.array(after, float)) ** 2)
    return 10 * np.log10(255**2 / error)


@pytest.mark.parametrize(
    "video",
    ["cosmos_av_clips/01a6de83-ac02-4689-a901-f0d1dfc0672d.small.mp4", "udacity_lane_video/solidWhiteRight.mp4"],
)
def test_a_second_of_real_road_keeps_38_db_in_250_kilobytes(tmp_path, shared_data, video):
    address = VideoAddress(str(shared_data / video))
    resize(address, [SegmentFile(tmp_path / "a.mp4", np.arange(30))], size=(256, 448))
    assert measure_psnr_db(address, tmp_path / "a.mp4", (256, 448), range(30)) >= 38
    assert (tmp_path / "a.mp4").stat().st_size <= 250_000


def test_segments_on_key_frames_are_copied_bit_for_bit(tmp_path, numbered):
    files = [SegmentFile(tmp_path / "a.mp4", np.arange(10, 20)), SegmentFile(tmp_path / "b.mp4", np.arange(20, 30))]
    copy_segments(numbered, probe_video(numbered), files, fps=30)
    copied = decode_frames(VideoAddress(str(tmp_path / "b.mp4")), range(10))
    assert np.array_equal(copied, decode_frames(numbered, range(20, 30)))


def test_segments_between_key_frames_are_encoded_at_full_size(tmp_path, numbered):
    copy_segments(numbered, probe_video(numbered), [SegmentFile(tmp_path / "a.mp4", np.arange(13, 23))], fps=30)
    info = probe_video(VideoAddress(str(tmp_path / "a.mp4")))
    assert (info.height, info.width) == (64, 96)
    assert read_numbers(tmp_path / "a.mp4", 10) == list(range(13, 23))


def test_an_encoded_full_size_segment_of_real_road_keeps_42_db(tmp_path, shared_data):
    address = VideoAddress(str(shared_data / "udacity_lane_video" / "solidWhiteRight.mp4"))
    info = probe_video(address)
    encode_segments(
        address, info, [SegmentFile(tmp_path / "a.mp4", np.arange(5))], fps=25, size=(540, 960), encoding=COPY
    )
    assert measure_psnr_db(address, tmp_path / "a.mp4", (540, 960), range(5)) >= 42


def test_the_same_frames_give_the_same_bytes(tmp_path, numbered):
    resize(numbered, [SegmentFile(tmp_path / "a.mp4", np.arange(5, 15)), SegmentFile(tmp_path / "b.mp4", np.arange(9))])
    resize(numbered, [SegmentFile(tmp_path / "c.mp4", np.arange(5, 15))])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


def test_the_number_of_decoding_threads_does_not_change_the_bytes(tmp_path, numbered):
    info = probe_video(numbered)
    for threads in (1, 3):
        encode_segments(
            numbered, info, [SegmentFile(tmp_path / f"{threads}.mp4", np.arange(20))], fps=30, size=(32, 48),
            encoding=RESIZED, num_threads=threads,
        )  # fmt: skip
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "3.mp4").read_bytes()


@pytest.fixture
def turned(tmp_path):
    """A video stored 96 wide and 64 high that asks to be shown turned a quarter anticlockwise; bright on its right."""
    path = tmp_path / "turned.mp4"
    picture = np.full((64, 96), 40, np.uint8)
    picture[:, 48:] = 200
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return VideoAddress(str(path))


@pytest.mark.parametrize("cut", ["resized", "copy"])
def test_segments_of_a_turned_recording_are_upright(tmp_path, turned, cut):
    info = probe_video(turned)
    assert (info.height, info.width) == (96, 64)
    files = [SegmentFile(tmp_path / "a.mp4", np.arange(10))]
    if cut == "resized":
        encode_segments(turned, info, files, fps=30, size=(48, 32), encoding=RESIZED)
    else:
        copy_segments(turned, info, files, fps=30)
    frame = read_clip(tmp_path / "a.mp4", fps=30, num_frames=10)[0]
    height, width = frame.shape[:2]
    assert (height, width) == ((48, 32) if cut == "resized" else (96, 64))
    assert frame[: height // 2 - 2].min() > 180 > 60 > frame[height // 2 + 2 :].max()
