"""A dataset on the Hub at one commit: what it holds, with the size and hash of every file."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import build_hf_headers, get_session

from data_prep.download.patience import HUB_ERRORS, AccessError, Patience, explain, is_passing

T = TypeVar("T")
PATHS_A_REQUEST = 500
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """One file at one commit.

    Attributes:
        path: relative to the dataset's root.
        size: in bytes.
        digest: "sha256:..." of the content, or "git:..." for a small file that git holds itself (its blob id).
    """

    path: str
    size: int
    digest: str

    def start_digest(self) -> Any:
        """A hash object that gives `digest` once it has seen the whole content."""
        if self.digest.startswith("sha256:"):
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def is_digest(self, seen: Any) -> bool:
        return seen.hexdigest() == self.digest.partition(":")[2]


class Hub:
    """The dataset's side of the line: asks again where that helps, and turns refusals into one line.

    Args:
        revision: branch, tag or commit.

    Raises:
        AccessError: No such dataset or revision, no token, the licence not accepted, no network.
    """

    def __init__(self, repo_id: str, revision: str, stop: threading.Event | None = None) -> None:
        self.repo_id = repo_id
        self.stop = stop or threading.Event()
        self.api = HfApi(library_name="driving-vlm-finetune")
        self.commit = revision if COMMIT.fullmatch(revision) else self._find_commit(revision)

    def ask(self, question: Callable[[], T], what: str) -> T:
        """Call the Hub's client; again where the trouble passes."""
        patience = Patience(self.stop)
        while True:
            get_session().timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT  # else a dead server is waited for without end
            try:
                return question()
            except HUB_ERRORS as error:
                if not is_passing(error):
                    raise explain(error, self.repo_id, what) from error
                patience.wait(error, lambda error=error: explain(error, self.repo_id, what))
            except ValueError as error:  # JSON was expected
                raise AccessError(
                    f"{constants.ENDPOINT} does not answer like a Hugging Face Hub ({what}: {error}); "
                    "look at HF_ENDPOINT and at the network's sign-in page"
                ) from error

    def list_files(self, folder: str) -> list[HubFile]:
        """The files of a folder, sorted; [] where there is none."""

        def list_tree() -> list[Any]:
            try:
                return list(
                    self.api.list_repo_tree(
                        self.repo_id, folder, recursive=True, revision=self.commit, repo_type="dataset"
                    )
                )
            except EntryNotFoundError:
                return []

        entries = self.ask(list_tree, f"the list of {folder}/")
        return sorted(map(_read_file, filter(_is_file, entries)), key=lambda file: file.path)

    def describe_files(self, paths: Sequence[str]) -> Mapping[str, HubFile]:
        """What the hub says about files, by path; those that it does not have are left out."""
        found = {}
        for start in range(0, len(paths), PATHS_A_REQUEST):
            batch = list(paths[start : start + PATHS_A_REQUEST])

            def describe(batch: list[str] = batch) -> Iterable[Any]:
                return self.api.get_paths_info(self.repo_id, batch, revision=self.commit, repo_type="dataset")

            entries = self.ask(describe, f"sizes and hashes of {batch[0]} and others")
            found |= {entry.path: _read_file(entry) for entry in entries if _is_file(entry)}
        return found

    def address(self, path: str) -> str:
        return hf_hub_url(self.repo_id, path, repo_type="dataset", revision=self.commit)

    def headers(self) -> dict[str, str]:
        """Who asks; and no compression, so that an offset is an offset."""
        return {**build_hf_headers(library_name="driving-vlm-finetune"), "Accept-Encoding": "identity"}

    def _find_commit(self, revision: str) -> str:
        refs = self.ask(lambda: self.api.list_repo_refs(self.repo_id, repo_type="dataset"), "its branches and tags")
        commits = {ref.name: ref.target_commit for ref in [*refs.tags, *refs.branches]}
        if revision not in commits:
            raise AccessError(f"{self.repo_id} has no revision {revision!r}; it has: {', '.join(commits) or 'none'}")
        return commits[revision]


def _is_file(entry: Any) -> bool:
    return hasattr(entry, "blob_id")


def _read_file(entry: Any) -> HubFile:
    digest = f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
    return HubFile(entry.path, entry.size, digest)
