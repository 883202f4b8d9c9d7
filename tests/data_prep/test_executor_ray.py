"""Jobs on a real Ray cluster of two nodes on this machine: what is lost is tried again, and nothing is left running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import killed_jobs
import pytest
from cutting import FPS, HEIGHT, WIDTH, cut, draw_recording, draw_recordings
from killed_jobs import die_once, die_over_three, fail_on_three, square
from killing import read_tree

from data_prep.executors.ray_tasks import run_tasks
from driving.errors import DrivingError, LedgerError

slow = pytest.mark.slow  # starting a cluster of two nodes takes half a minute


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        DrivingError, match="--executor ray needs the package ray; run `uv sync --inexact --extra scale`"
    ):
        list(run_tasks(abs, [1], workers=1))


@slow
def test_a_cluster_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("ray")
    code = "from data_prep.executors.ray_tasks import run_tasks; list(run_tasks(abs, [1], workers=1))"
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:9"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert "no Ray cluster at RAY_ADDRESS=127.0.0.1:9" in last and "or use --executor local" in last


@pytest.fixture(scope="module")
def cluster():
    """A node with one CPU, joined; a test may add another."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for module in (sys.modules[__name__], killed_jobs):  # workers cannot import a test
        ray.cloudpickle.register_pickle_by_value(module)
    cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def work_a_while(number):
    import ray

    time.sleep(0.5)
    return number, ray.get_runtime_context().get_node_id()


@slow
def test_every_job_is_done_once_where_the_driver_stands(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sorted(run_tasks(square, range(20), workers=0)) == [number * number for number in range(20)]
    assert list(run_tasks(lambda _: os.getcwd(), [0], workers=1)) == [str(tmp_path)]


@slow
def test_an_error_of_a_job_reaches_the_caller_as_it_was(cluster):
    with pytest.raises(LedgerError, match="the disk is full"):
        list(run_tasks(fail_on_three, range(50), workers=2))


@slow
def test_a_killed_worker_loses_nothing(cluster, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    assert sorted(run_tasks(die_once, folders, workers=2)) == ["a", "b", "c"]


@slow
def test_a_job_that_kills_its_workers_is_given_up_and_the_others_are_done(cluster):
    found = list(run_tasks(die_over_three, range(5), workers=2, give_up=lambda number: f"not {number}"))
    assert sorted(found, key=str) == [0, 1, 2, 4, "not 3"]


@slow
def test_a_lost_node_loses_nothing(cluster):
    node = cluster.add_node(num_cpus=1)
    found = []
    for number, node_id in run_tasks(work_a_while, range(24), workers=4):
        found.append((number, node_id))
        if node is not None and node_id == node.node_id:  # it works, and has more in work by now
            cluster.remove_node(node, allow_graceful=False)
            node = None
    assert node is None
    assert sorted(number for number, _ in found) == list(range(24))


# The door.


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = draw_recordings(tmp_path)
    for place in range(6):
        draw_recording(folder / f"more_{place}.mp4", first_grey=5 + place, seconds=6)
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


@slow
@pytest.mark.parametrize("way", ["resized", "scaled"])
def test_ray_writes_the_bytes_that_a_local_run_writes(cluster, recordings, way):
    cut("out", workers=2, cut=way)
    os.rename("out", "local")
    assert cut("out", executor="ray", cut=way).num_segments == 3 * 3 + 6 * 5
    assert read_tree(Path("out")) == read_tree(Path("local"))


def list_children(group):
    """Processes of a session that still live, with those that Ray put into groups of their own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@slow
def test_a_killed_driver_leaves_nothing_running_and_the_same_command_goes_on(recordings, repository):
    pytest.importorskip("ray")
    cut("out")
    whole = read_tree(Path("out"))
    os.rename("out", "whole")
    command = [
        sys.executable, str(repository / "prepare_video_segments.py"), "--input-dir", "rec", "--output-dir", "out",
        "--fps", f"{FPS}", "--video-frame-pixels", f"{HEIGHT * WIDTH}", "--executor", "ray", "--workers", "2",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    while process.poll() is None and not list(Path("out/metadata/recordings").glob("*.arrow")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 180  # Ray's agents look for their node once in a while
    while list_children(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert list_children(process.pid) == []
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "of 10 recordings are done" in result.stdout
    assert read_tree(Path("out")) == whole
