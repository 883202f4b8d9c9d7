"""A model name that is no folder: what is missing is said at once, without the hub's own retries."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest

pytest.importorskip("huggingface_hub")
from huggingface_hub import constants  # noqa: E402

from driving.errors import DrivingError  # noqa: E402
from qwenvl.train import hub  # noqa: E402
from qwenvl.train.hub import check_findable  # noqa: E402

MAKER = "maker/none"


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def listen(monkeypatch):
    """A socket on this machine that the hub is said to be at; it takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def test_without_network_it_takes_no_time_to_say_that_a_model_is_not_here(listen, tmp_path):
    listen.close()
    started = time.monotonic()
    with pytest.raises(
        DrivingError,
        match=r"is no folder here and not in the cache .* \(Connection refused\); mend the name",
    ):
        check_findable(MAKER, cache_dir=str(tmp_path))
    assert time.monotonic() - started < 2


def test_a_processor_that_is_not_here_is_not_asked_for_again_and_again(listen, tmp_path):
    pytest.importorskip("torch")
    from qwenvl.train.loading import load_processor

    listen.close()
    with pytest.raises(DrivingError, match=rf"{MAKER} is no folder here .* the hub cannot be reached"):
        load_processor(MAKER, cache_dir=str(tmp_path))


def test_a_hub_that_says_nothing_is_waited_for_once_and_shortly(listen, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.2)
    with pytest.raises(DrivingError, match=r"the hub cannot be reached \(timed out\)"):
        check_findable(MAKER)


def test_a_machine_that_is_told_to_stay_offline_asks_nobody(listen, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DrivingError, match=r"\(HF_HUB_OFFLINE is set\)"):
        check_findable(MAKER, cache_dir=str(tmp_path))


def test_a_hub_that_answers_is_left_to_its_own_client(monkeypatch):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        check_findable(MAKER)


def test_a_folder_and_a_model_in_the_cache_need_no_hub(listen, tmp_path):
    listen.close()
    check_findable(str(tmp_path))
    snapshot = tmp_path / "models--maker--none/snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--maker--none/refs").mkdir()
    (tmp_path / "models--maker--none/refs/main").write_text("a" * 40)
    check_findable(MAKER, cache_dir=str(tmp_path))
    check_findable(MAKER, "a" * 40, str(tmp_path))


def test_a_name_that_no_model_can_have_is_said_to_be_none(listen):
    with pytest.raises(DrivingError, match="check point is no folder here, and no name that a model"):
        check_findable("check point")
