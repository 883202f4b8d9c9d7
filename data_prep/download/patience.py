"""Which refusals of the hub pass by themselves, how long to wait, and what the others mean for the user."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from driving.errors import DrivingError

TRIES = 5  # in a row without a single byte; a byte makes it five again
WAIT_S = 1.0  # before the second try, then twice as long each time
LONGEST_WAIT_S = 30.0
PASSING_STATUS = (408, 429, 500, 502, 503, 504)
HUB_ERRORS = (HTTPError, OfflineModeIsEnabled)
AGAIN = "run the same command again to go on"


class AccessError(DrivingError):
    """The hub refuses, or cannot be reached: nothing more can be fetched."""


class FetchError(DrivingError):
    """One file cannot be fetched whole; others may."""


class Stopped(Exception):
    """The run was told to stop while this worker was busy."""


class Patience:
    """How often one request is tried again, shared by nobody: a counter and a way to wait.

    Args:
        stop: set when the run ends early; a wait ends at once then.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.num_tries = 0

    def check_stop(self) -> None:
        """Raise Stopped where the run was told to end."""
        if self.stop.is_set():
            raise Stopped

    def renew(self) -> None:
        """Bytes came: as many tries as at first."""
        self.num_tries = 0

    def wait(self, error: Exception | None, give_up: Callable[[], DrivingError]) -> None:
        """Sleep before the next try, as long as the hub asks for; raise `give_up()` when all tries are used up."""
        self.num_tries += 1
        if self.num_tries >= TRIES:
            raise give_up() from error
        seconds = read_wait_s(error)
        if seconds is None:
            seconds = min(WAIT_S * 2 ** (self.num_tries - 1), LONGEST_WAIT_S)
        self.stop.wait(seconds)
        self.check_stop()


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed in a while: a cut connection, a busy or failing server."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING_STATUS
    return isinstance(error, HTTPError)


def read_wait_s(error: Exception | None) -> float | None:
    """How long the hub asks to wait: `Retry-After: 7`, or `RateLimit: "api";r=0;t=55`; None where it does not say."""
    headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
    found = re.fullmatch(r"\s*(\d+)\s*", headers.get("retry-after", ""))
    found = found or re.search(r";\s*r=0\s*;\s*t=(\d+)", headers.get("ratelimit", ""))
    return float(found[1]) if found else None


def explain(error: Exception, repo_id: str, what: str) -> DrivingError:
    """What an error of the hub means, and what to do, in one line."""
    page = f"{constants.ENDPOINT}/datasets/{repo_id}"
    has_token = get_token() is not None
    if isinstance(error, OfflineModeIsEnabled):
        return AccessError("HF_HUB_OFFLINE is set, so nothing can be fetched; unset it and run again")
    if isinstance(error, RevisionNotFoundError):
        return AccessError(f"{repo_id} has no such revision ({what}); see {page}/tree/main for its tags")
    if isinstance(error, EntryNotFoundError):
        return FetchError(f"the hub has no {what}")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status == 401 and not has_token:
        return AccessError(
            f"{repo_id} is gated and this machine has no Hugging Face token; accept its licence at {page}, "
            "then run `hf auth login` or set HF_TOKEN"
        )
    if status == 401:
        return AccessError(
            f"the hub does not accept this machine's Hugging Face token for {repo_id}; make a new one at "
            "https://huggingface.co/settings/tokens, then run `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, GatedRepoError):
        return AccessError(
            f"the licence of {repo_id} is not accepted for this account; accept it at {page}, and run again"
        )
    if status == 403:
        return AccessError(
            f"the hub refuses {what} (403): the token may not read gated datasets; give it that right at "
            "https://huggingface.co/settings/tokens"
        )
    if isinstance(error, RepositoryNotFoundError):
        return AccessError(f"there is no dataset {repo_id} at {constants.ENDPOINT}; look at --repo-id and HF_ENDPOINT")
    if status == 429:
        return AccessError(f"the hub asks for fewer requests (429, {what}); wait some minutes, then {AGAIN}")
    if status:
        return FetchError(f"the hub answers {status} to {what}; {AGAIN}")
    if type(error).__name__.startswith("Connect"):  # httpx's name, whichever httpx the hub's client is built on
        return AccessError(f"the hub at {constants.ENDPOINT} cannot be reached ({error}); {AGAIN}")
    return FetchError(
        f"the connection broke {TRIES} times in a row at {what} ({error or type(error).__name__}); {AGAIN}"
    )
