"""`sbatch` and `squeue` that really run what is submitted, two tasks at a time. Not a test itself.

sbatch returns at once, and a process of its own runs the array and then what depends on it, as a cluster does. State is
in $FAKE_SLURM: <id>.state (running, done, failed), tasks/<id>_<index>.pid of what is in work, <id>_<index>.tries.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

NUM_SLOTS = 2
HEADER = "#!{python}\nimport sys\nsys.path.insert(0, {here!r})\nimport fake_slurm\nfake_slurm.{name}(sys.argv[1:])\n"


def install(folder: Path, monkeypatch) -> Path:
    """Put both commands on the PATH; returns the folder of their state."""
    (folder / "bin").mkdir(parents=True)
    (folder / "tasks").mkdir()
    for name in ("sbatch", "squeue"):
        command = folder / "bin" / name
        command.write_text(HEADER.format(python=sys.executable, here=str(Path(__file__).parent), name=name))
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


def wait_for_jobs(folder: Path) -> dict[str, str]:
    """Wait until nothing runs any more; id -> done or failed."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        states = {path.stem: path.read_text() for path in folder.glob("*.state")}
        if states and all(state in ("done", "failed") for state in states.values()):
            return states
        time.sleep(0.05)
    raise TimeoutError(f"{states}: {[path.read_text() for path in folder.glob('*.log')]}")


def sbatch(words: list[str]) -> None:
    folder = Path(os.environ["FAKE_SLURM"])
    job_id = str(100 + len(list(folder.glob("*.state"))))
    assert "--parsable" in words
    set_state(folder, job_id, "running")
    after = next((word.rpartition(":")[2] for word in words if word.startswith("--dependency=afterok:")), "")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fake_slurm; "
    code += f"fake_slurm.run_job({str(folder)!r}, {job_id!r}, {words[-1]!r}, {after!r})"
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)  # who called sbatch waits for its output
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **nowhere)
    print(f"{job_id};cluster")


def squeue(words: list[str]) -> None:
    job_id = next(word.partition("=")[2] for word in words if word.startswith("--jobs="))
    state = Path(os.environ["FAKE_SLURM"], f"{job_id}.state")
    if not state.exists():
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    if state.read_text() == "running":
        print(job_id)


def set_state(folder: Path, job_id: str, state: str) -> None:
    (folder / f"{job_id}.{os.getpid()}").write_text(state)
    os.replace(folder / f"{job_id}.{os.getpid()}", folder / f"{job_id}.state")


def run_job(folder_name: str, job_id: str, script: str, after: str) -> None:
    """The controller's part: wait for what it depends on, then run every task, two at a time."""
    folder = Path(folder_name)
    while after and (folder / f"{after}.state").read_text() == "running":
        time.sleep(0.05)
    if after and (folder / f"{after}.state").read_text() == "failed":
        set_state(folder, job_id, "failed")  # --kill-on-invalid-dep
        return
    array = re.search(r"^#SBATCH --array=0-(\d+)$", Path(script).read_text(), re.MULTILINE)
    waiting = list(range(int(array[1]) + 1)) if array else [None]
    running: list[tuple[Path, subprocess.Popen]] = []
    codes = []
    while waiting or running:
        while waiting and len(running) < NUM_SLOTS:
            running.append(start_task(folder, job_id, script, waiting.pop(0)))
        for pid_file, process in running[:]:
            if process.poll() is not None:
                codes.append(process.returncode)
                pid_file.unlink()
                running.remove((pid_file, process))
        time.sleep(0.02)
    set_state(folder, job_id, "failed" if any(codes) else "done")


def start_task(folder: Path, job_id: str, script: str, index: int | None) -> tuple[Path, subprocess.Popen]:
    environment = {**os.environ, "SLURM_JOB_ID": job_id}
    if index is not None:
        environment["SLURM_ARRAY_TASK_ID"] = str(index)
    name = job_id if index is None else f"{job_id}_{index}"
    with (folder / f"{name}.log").open("a") as log:
        process = subprocess.Popen(
            ["bash", script], env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    pid_file = folder / "tasks" / f"{name}.pid"
    pid_file.write_text(str(process.pid))
    return pid_file, process
