"""Who may fetch: no token, a licence not accepted, no hub at all, each in one line that says what to do."""

from __future__ import annotations

import argparse

import pytest
from downloading import fetch
from local_hub import EXPIRED_TOKEN, STRANGER_TOKEN

from data_prep.download import tables
from data_prep.download.options import parse_chunks, parse_repo_id
from data_prep.download.patience import AccessError
from driving.errors import DrivingError

PAGE = "http://127.0.0.1:.*/datasets/nvidia/PhysicalAI-Autonomous-Vehicles"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "here"


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))


def test_without_a_token_the_way_to_get_one_is_told(hub, root, no_token):
    with pytest.raises(
        AccessError, match=rf"gated and this machine has no .* token; accept its licence at {PAGE}, then"
    ):
        fetch(root, 0)


def test_a_token_whose_owner_has_not_accepted_the_licence(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", STRANGER_TOKEN)
    with pytest.raises(AccessError, match=f"is not accepted for this account; accept it at {PAGE}, and run again"):
        fetch(root, 0)


def test_a_token_that_expired(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", EXPIRED_TOKEN)
    with pytest.raises(AccessError, match="the hub does not accept this machine's Hugging Face token .*hf auth login"):
        fetch(root, 0)


def test_a_token_that_may_not_read_gated_datasets(hub, root):
    hub.break_next("chunk_0000.zip", "status", 403, times=99)
    with pytest.raises(AccessError, match=r"the hub refuses .*zip \(403\): the token may not read gated datasets"):
        fetch(root, 0)


def test_no_refusal_ever_shows_the_token(hub, root, monkeypatch, capfd):
    for token in (STRANGER_TOKEN, EXPIRED_TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(AccessError) as refusal:
            fetch(root, 0)
        assert token not in str(refusal.value)
    assert "hf_" not in "".join(capfd.readouterr())


def test_an_unknown_revision_names_those_that_there_are(hub, root):
    with pytest.raises(AccessError, match="has no revision '24.01'; it has: 25.10, main"):
        fetch(root, 0, revision="24.01")


def test_an_unknown_commit(hub, root):
    with pytest.raises(AccessError, match="has no such revision .*see http"):
        fetch(root, 0, revision="c" * 40)


def test_a_dataset_that_is_not_there(hub, root):
    with pytest.raises(AccessError, match=r"there is no dataset nobody/nothing at http.*--repo-id and HF_ENDPOINT"):
        fetch(root, 0, repo_id="nobody/nothing")


def test_a_hub_that_is_not_there(hub, root, monkeypatch):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(AccessError, match=r"the hub at http://127.0.0.1:\d+ cannot be reached .*again to go on"):
        fetch(root, 0)


def test_a_page_that_is_no_hub(hub, root):
    hub.break_next("api/refs", "text", times=9)
    with pytest.raises(AccessError, match="does not answer like a Hugging Face Hub .*the network's sign-in page"):
        fetch(root, 0)


def test_offline_is_said(hub, root, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from huggingface_hub.utils import close_session

    close_session()
    with pytest.raises(AccessError, match="HF_HUB_OFFLINE is set"):
        fetch(root, 0)
    close_session()


def test_without_the_devkit_its_extra_is_named(hub, root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "physical_ai_av", None)
    with pytest.raises(
        DrivingError, match="devkit of the dataset is not installed .*uv sync --inexact --extra download"
    ):
        fetch(root, 0)


@pytest.mark.parametrize("text, numbers", [("0000", [0]), ("7", [7]), ("0009-0011", [9, 10, 11])])
def test_chunks_are_numbers_or_ranges_with_both_ends(text, numbers):
    assert list(parse_chunks(text)) == numbers


@pytest.mark.parametrize("text", ["", "x", "3-1", "-1", "1-", "12345678"])
def test_what_is_no_chunk(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is neither a chunk \(0000\) nor a range"):
        parse_chunks(text)


@pytest.mark.parametrize("text", ["name", "a/b/c", "../x", "a/ b"])
def test_what_is_no_dataset_name(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not the name of a dataset on the Hub"):
        parse_repo_id(text)


def test_the_tables_the_devkit_reads_are_the_verified_ones(hub, root):
    fetch(root, 0)
    hub.log.clear()
    (root / ".download/fetched.jsonl").unlink()
    fetch(root, 0)
    assert hub.asked("parquet") == [entry for entry in hub.asked("parquet") if entry[3] == 404]
    assert tables.NEEDED == ("features.csv", "clip_index.parquet")
