"""Bytes [start, stop) of a file on the Hub, in order, each once, however often the connection breaks.

The Hub's own `hf_hub_download` (2.4) does not continue a file across runs, gives up on a reset connection and on a 5xx
in the middle of a file, and checks neither the hash nor where a continued body begins; `HfFileSystem` takes a whole
file for the part that it asked for where a server ignores the range. Hence this file; sessions, headers and errors are
the Hub's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import get_session, hf_raise_for_status

from data_prep.download.hub import Hub, HubFile
from data_prep.download.patience import HUB_ERRORS, FetchError, Patience, explain, is_passing


def stream_range(hub: Hub, file: HubFile, start: int, stop: int, write: Callable[[bytes], None]) -> None:
    """Hand bytes [start, stop) of a file to `write`, block by block.

    Raises:
        FetchError: The hub does not give these bytes.
        AccessError: It gives nothing any more.
        Stopped: The run ends.
    """
    patience = Patience(hub.stop)
    done = start
    while done < stop:
        cause = None
        try:
            with _open(hub, file, done, stop) as response:
                to_skip = _check_answer(response, file, done, stop)
                for block in response.iter_bytes():  # a block size would hold bytes back that a break then loses
                    patience.check_stop()
                    skipped, block = min(to_skip, len(block)), block[to_skip : to_skip + stop - done]
                    to_skip -= skipped
                    if block:
                        write(block)
                        done += len(block)
                        patience.renew()
                    if done == stop:
                        return
        except HUB_ERRORS as error:
            if not is_passing(error):
                raise explain(error, hub.repo_id, file.path) from error
            cause = error
        patience.wait(cause, lambda cause=cause, done=done: _give_up(hub, file, done, stop, cause))


@contextmanager
def _open(hub: Hub, file: HubFile, start: int, stop: int) -> Iterator[Any]:
    headers = hub.headers()
    if (start, stop) != (0, file.size):
        headers["Range"] = f"bytes={start}-{stop - 1}"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", hub.address(file.path), headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        yield response


def _check_answer(response: Any, file: HubFile, start: int, stop: int) -> int:
    """How many bytes of the body come before `start`.

    Raises:
        FetchError: The body is neither the part asked for nor the whole of a file whose end is asked for.
    """
    if response.status_code == 206:
        given = response.headers.get("content-range", "")
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", given)
        if not found or int(found[1]) != start or found[3] not in ("*", str(file.size)):
            raise FetchError(
                f"{file.path}: bytes {start:,} to {stop:,} of {file.size:,} were asked for, the hub gives {given!r}: "
                "the file is another one now; run the same command again"
            )
        return 0
    if stop != file.size:
        raise FetchError(
            f"{file.path}: the hub gives no parts of files (status {response.status_code} to a range request), so "
            "single clips cannot be fetched from it; fetch whole chunks with --chunk"
        )
    return start  # a server that ignores ranges sends the file from its beginning


def _give_up(hub: Hub, file: HubFile, done: int, stop: int, cause: Exception | None) -> Exception:
    if cause is not None:
        return explain(cause, hub.repo_id, file.path)
    return FetchError(
        f"{file.path}: the hub ends at byte {done:,} of {stop:,} every time; run the same command again later"
    )
