"""The demo: what is asked and shown, the real page of gradio, and the same in a browser where there is one."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time

import numpy as np
import pytest
from adapters import ANSWER, FORMAT, draw_frames
from browser import CHROMIUM, Browser

from driving.camera import build_pinhole, format_camera
from driving.errors import DrivingError, VideoError
from evaluation.demo import tool
from evaluation.demo.charts import draw_answer, render_charts
from evaluation.demo.model import Demo
from evaluation.report.svg import HEIGHT
from qwenvl.data.frame_cache import Clip
from qwenvl.data.preprocessing import Preprocessing
from qwenvl.train.generation import Generated

HOSTILE = "<img src=x onerror=alert(1)>"


class SayingEngine:
    """Sees the same ten frames of every row and says what it is told to."""

    def __init__(self, text: str = ANSWER) -> None:
        self.text = text
        self.asked: list[dict] = []

    def read(self, record):
        if record.get("broken"):
            raise VideoError("videos/broken.mp4 is cut short; download it again")
        return [] if record.get("empty") else [Clip(draw_frames(), 10.0)]

    def prepare(self, record, clips):
        return record

    def generate(self, samples):
        self.asked += samples
        return [Generated(self.text, 50, False, 100)]


@pytest.fixture
def page(drive, tmp_path):
    """page(text) -> a Demo over two rows with truth, and two that cannot be shown."""

    def build(text: str = ANSWER) -> Demo:
        preprocessing = Preprocessing(video_fps=10.0, answer_format=FORMAT.to_json())
        records = {"row0": {}, "row1": {}, "broken": {"broken": True}, "empty": {"id": "empty", "empty": True}}
        return Demo(SayingEngine(text), preprocessing, FORMAT, records, drive([(11.0, 0.012), (8.0, -0.02)]), tmp_path)

    return build


# Asked and shown


def test_an_answer_is_shown_with_its_video_and_how_it_was_read(page):
    from video_io import probe_video
    from video_io.address import VideoAddress

    asked = page().ask_row("row0")
    assert (asked.text, asked.facts) == (ANSWER, "strict; 50 tokens; 10 frames of 64x96 px at 10 a second")
    info = probe_video(VideoAddress(str(asked.video)))
    assert (info.num_frames, info.height, info.width, info.fps_median) == (10, 64, 96, 10.0)
    assert asked.charts.count("<svg") == 3 and "recorded" in asked.charts and "predicted" in asked.charts


def test_an_answer_that_cannot_be_read_is_shown_beside_what_was_recorded(page):
    asked = page("I see a road.").ask_row("row1")
    assert asked.facts.startswith("failed: the answer holds 0 (velocity, curvature) pairs, the prompt asked for 10")
    assert "predicted" not in asked.charts and asked.charts.count("<svg") == 3


def test_a_row_can_be_looked_at_without_asking(page):
    demo = page()
    assert demo.show_row("row0").suffix == ".mp4" and demo.engine.asked == []


def test_a_row_that_is_not_there_is_refused(page):
    with pytest.raises(DrivingError, match="there is no row 'nothing'; choose one of the list"):
        page().ask_row("nothing")


def test_a_row_without_video_is_refused(page):
    with pytest.raises(DrivingError, match="empty shows no video; choose another"):
        page().ask_row("empty")


def test_a_video_of_ones_own_is_asked_about_from_where_it_is_wanted(page, tmp_path):
    from video_io import write_video

    write_video(tmp_path / "own.mp4", draw_frames(30), 10.0)
    demo = page()
    asked = demo.ask_video(tmp_path / "own.mp4", 1.5)
    assert (demo.engine.asked[0]["video_start"], demo.engine.asked[0]["video_end"]) == (1.5, 2.5)
    assert "recorded" not in asked.charts


def test_an_answer_in_words_has_no_charts(page):
    demo = page("A wet road.")
    demo.answer_format = None
    asked = demo.ask_row("row0")
    assert asked.charts == "" and asked.facts.startswith("50 tokens")


# Drawn


def test_small_frames_are_enlarged_to_be_seen():
    shown = draw_answer(np.zeros((64, 96, 3), np.uint8), None, None, None, -1, None)
    assert shown.shape == (6 * 64, 6 * 96, 3) and not shown.any()


def test_the_path_is_on_the_road_where_the_camera_is_known_and_in_a_corner_where_not(drive):
    truth = drive([(12.0, 0.0)])
    camera = build_pinhole((360, 640), (500.0, 500.0), (320.0, 180.0), (0.0, 0.0, 1.5))
    grey = np.full((360, 640, 3), 90, np.uint8)
    on_road, inset = (draw_answer(grey, None, FORMAT, truth, 0, one) != grey for one in (camera, None))
    # a straight road ends below the horizon in the middle; the inset lies in the lower right corner
    assert on_road.any(axis=2)[180:, 280:360].any() and not on_road.any(axis=2)[:180].any()
    assert inset.any(axis=2)[180:, 480:].any() and not inset.any(axis=2)[:, 280:360].any()


def test_a_camera_of_the_truth_is_used(page, monkeypatch):
    demo = page()
    camera = build_pinhole((64, 96), (80.0, 80.0), (48.0, 32.0), (0.0, 0.0, 1.5))
    demo.truth.facts[0]["camera"] = format_camera(camera)
    seen = []
    monkeypatch.setattr("evaluation.demo.charts.draw_path", lambda frame, camera, paths: seen.append(camera) or frame)
    demo.ask_row("row0")
    demo.ask_row("row1")
    assert seen == [camera, None]


def test_charts_need_something_to_draw():
    assert render_charts(None, FORMAT, None, -1) == ""
    assert f'viewBox="0 0 440 {HEIGHT}"' in render_charts(tool_motion(), FORMAT, None, -1)


def tool_motion():
    from driving.answer_format import parse_answer

    return parse_answer(ANSWER, FORMAT).trajectory


# The page


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def served(page, port, tmp_path):
    """served(text) -> address of the real page. In a process of its own, which writes to tmp_path/served.log: the
    server's threads outlive pytest's capture of a test."""
    pytest.importorskip("gradio")
    servers = []

    def open_page(text: str = ANSWER) -> str:
        process = multiprocessing.get_context("fork").Process(
            target=serve, args=(page(text), port, tmp_path / "served.log"), daemon=True
        )
        process.start()
        servers.append(process)
        deadline = time.monotonic() + 300
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.is_alive() and time.monotonic() < deadline, (tmp_path / "served.log").read_text()
            time.sleep(0.1)
        return f"http://127.0.0.1:{port}/"

    yield open_page
    for process in servers:
        process.kill()
        process.join()


def serve(demo: Demo, port: int, log) -> None:
    from evaluation.demo.page import serve_page

    with log.open("w", buffering=1) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        sys.stdout = sys.stderr = file
        serve_page(demo, "127.0.0.1", port)


def test_the_page_answers_and_says_what_is_wrong_in_one_line(served, tmp_path):
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(served(), verbose=False)
    video, picture, text, facts, charts = client.predict("row0", api_name="/ask_row")
    assert text == ANSWER and facts.startswith("strict; 50 tokens") and charts.startswith('<div class="drive">')
    assert str(video).endswith(".mp4") and picture
    with pytest.raises(Exception, match=r"videos/broken.mp4 is cut short; download it again"):
        client.predict("broken", api_name="/ask_row")
    with pytest.raises(Exception, match="there is no video yet; choose a file first"):
        client.predict(None, 0, api_name="/ask_video")
    client.close()
    assert "Traceback" not in (tmp_path / "served.log").read_text()


def test_another_clip_does_not_keep_the_answer_of_the_last_one(page):
    from evaluation.demo.page import show_unasked

    video, *answer = show_unasked(page(), "row1")
    assert video.endswith(".mp4") and answer == [None, "", "", ""]


def test_a_port_that_is_taken_is_one_line(page, port):
    pytest.importorskip("gradio")
    from evaluation.demo.page import serve_page

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(DrivingError, match=rf"port {port} of 127.0.0.1 cannot be opened .*; pass another --port"):
            serve_page(page(), "127.0.0.1", port)


def test_without_gradio_it_says_how_it_is_installed(monkeypatch):
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        DrivingError, match="the demo needs gradio, which is not installed; run uv sync --inexact --extra demo"
    ):
        tool.main([])


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
def test_a_browser_shows_video_answer_and_charts_and_asks_nobody_else(served, tmp_path):
    address = served(HOSTILE)
    browser = Browser()
    try:
        browser.open(address)
        browser.wait("!!document.querySelector('video')")  # the first row's clip is there before anyone asks
        browser.run("document.querySelector('button.primary').click()")
        browser.wait("document.querySelectorAll('.drive svg').length === 3")
        assert browser.run("document.querySelector('textarea').value") == HOSTILE
        assert not browser.run("!!document.querySelector('img[src=\"x\"]')")
        browser.screenshot(tmp_path / "demo.png")
        outside = [url for url in browser.requests if not url.startswith((address, "data:", "blob:"))]
        assert browser.requests and outside == []
    finally:
        browser.close()


# Loading


@pytest.mark.needs_torch
def test_a_model_and_rows_are_loaded_and_asked(tiny_model, small_dataset, tmp_path):
    pytest.importorskip("torch")
    import shutil

    from adapters import write_preprocessing

    from qwenvl.train.loading import load_processor
    from video_io import write_video

    shutil.copytree(tiny_model, small_dataset.model, dirs_exist_ok=True)
    answer_format = small_dataset.answer_format.to_json()
    write_preprocessing(small_dataset.model, load_processor(tiny_model), answer_format=answer_format)
    for row in small_dataset.test_rows:
        write_video(small_dataset.folder / "videos" / f"{row.id}.mp4", draw_frames(), 10.0)
    options = tool.DemoOptions(
        model=str(small_dataset.model), test_data=small_dataset.test_data, max_rows=3, max_new_tokens=4, device="cpu"
    )
    demo = tool.load_demo(options, tmp_path)
    assert len(demo.records) == 3 and set(demo.truth.ids) == set(demo.records)
    asked = demo.ask_row(next(iter(demo.records)))
    assert "4 tokens; cut by the token limit; 10 frames of 64x96 px" in asked.facts and "recorded" in asked.charts
