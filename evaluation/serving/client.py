"""One question to an OpenAI-compatible server, and whatever can go wrong with it as one line.

body ──ask──▶ POST /chat/completions ──read_reply──▶ Reply(text, tokens, cut or not, prompt ids where given)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from driving.errors import DrivingError

MAX_REPLY_BYTES = 16 << 20
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_PASSING = (429, 500, 502, 503, 504)
LONGEST_SHOWN = 300  # characters of what a server says, in a message


class ServerError(DrivingError):
    """A server does not answer, or not as the API promises."""


class PassingError(ServerError):
    """A server that was there did not answer this time: busy, restarting, or broken off."""


@dataclass(frozen=True)
class Server:
    """Where questions go.

    Attributes:
        url: up to and with /v1.
        api_key: "" sends none.
        timeout_s: for the whole answer.
    """

    url: str = "http://localhost:8000/v1"
    api_key: str = ""
    timeout_s: float = 300.0

    @classmethod
    def from_environment(cls, url: str, timeout_s: float = 300.0) -> Server:
        """With the key in VLLM_API_KEY, where vLLM itself looks for it: command lines are seen by everyone."""
        return cls(url, os.environ.get("VLLM_API_KEY", ""), timeout_s)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(f"{self.url!r} is no address of a server; give one like http://localhost:8000/v1")

    def place(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}"


@dataclass(frozen=True)
class Reply:
    """One answer of a server.

    Attributes:
        text: as it came.
        num_tokens: of the answer; 0 where the server does not say.
        is_cut: stopped by the token limit.
        prompt_tokens: as the server counts them, 0 where it does not say.
        prompt_ids: token ids of the prompt, where the server gives them (vLLM does on return_token_ids).
    """

    text: str
    num_tokens: int
    is_cut: bool
    prompt_tokens: int
    prompt_ids: tuple[int, ...] | None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A question that is sent elsewhere would take the key with it, and turn into a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(server: Server, body: dict[str, Any]) -> Reply:
    """Send one question and wait for its answer.

    Raises:
        ServerError: No server, no answer in time, an error, or what is no answer; always one line.
    """
    answer = _exchange(server, "chat/completions", json.dumps(body, allow_nan=False).encode())
    return read_reply(answer, server.place("chat/completions"))


def list_models(server: Server) -> list[str]:
    """Names that the server takes in `model`."""
    answer = _exchange(server, "models", None)
    try:
        return [str(entry["id"]) for entry in answer["data"]]
    except (KeyError, TypeError) as error:
        raise ServerError(f"{server.place('models')} lists no models: {_show(json.dumps(answer))}") from error


def choose_model(server: Server, name: str) -> str:
    """The name asked for, or the only one that is served.

    Raises:
        ServerError: It is not served, or there are several and none was named.
    """
    names = list_models(server)
    if name and name not in names:
        raise ServerError(f"{server.url} serves {', '.join(names) or 'nothing'}, not {name!r}; pass --served-name")
    if not name and len(names) != 1:
        raise ServerError(f"{server.url} serves {', '.join(names) or 'nothing'}; say which with --served-name")
    return name or names[0]


def _exchange(server: Server, path: str, data: bytes | None) -> Any:
    place = server.place(path)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    request = urllib.request.Request(place, data=data, headers=headers)
    opener = urllib.request.build_opener(_NoRedirect)
    deadline = time.monotonic() + server.timeout_s
    try:
        with opener.open(request, timeout=server.timeout_s) as response:
            kind = response.headers.get_content_type()
            raw = b"" if kind == "text/event-stream" else _read(response, deadline)
    except urllib.error.HTTPError as error:
        kind_of_error = PassingError if error.code in _PASSING else ServerError
        raise kind_of_error(_explain_status(error, place)) from error
    except TimeoutError as error:
        raise ServerError(_explain_timeout(server, place)) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise ServerError(_explain_timeout(server, place)) from error
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise ServerError(
            f"no server answers at {place} ({_show(str(reason))}); start it with the line that scripts/vllm_command.py "
            "prints, or mend --server"
        ) from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise PassingError(
            f"{place} broke off its answer ({type(error).__name__}); look at the server's log"
        ) from error
    if kind == "text/event-stream":
        raise ServerError(f"{place} streams its answer although it was told not to; ask the server itself, no proxy")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ServerError(
            f"{place} answered {kind or 'something'}, not JSON: {_show(raw.decode(errors='replace'))}; is it an "
            "OpenAI-compatible server?"
        ) from error


def _read(response: Any, deadline: float) -> bytes:
    """The whole answer; the socket's own time limit starts again with every byte."""
    raw = b""
    while chunk := response.read1(1 << 16):
        raw += chunk
        if len(raw) > MAX_REPLY_BYTES:
            raise ServerError(f"{response.url} answered more than {MAX_REPLY_BYTES >> 20} MiB; that is no answer")
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:  # what was announced and did not come
        raise http.client.IncompleteRead(raw, response.length)
    return raw


def read_reply(answer: Any, place: str) -> Reply:
    """Read the JSON of a chat completion.

    Raises:
        ServerError: It holds an error or no text.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text, refusal = message["content"], message.get("refusal")
        usage = answer.get("usage") or {}
        num_tokens, prompt_tokens = int(usage.get("completion_tokens") or 0), int(usage.get("prompt_tokens") or 0)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        said = _find_message(answer) or json.dumps(answer)
        raise ServerError(f"{place} gave no answer: {_show(said)}") from error
    if refusal:
        raise ServerError(f"{place} refused to answer: {_show(str(refusal))}")
    if not isinstance(text, str):
        raise ServerError(f"{place} gave an answer without text: {_show(json.dumps(message))}")
    ids = answer.get("prompt_token_ids")
    is_ids = isinstance(ids, list) and all(type(token) is int for token in ids)
    text = _HALF_CHARACTER.sub("\ufffd", text)  # which no file can hold
    return Reply(
        text, num_tokens, choice.get("finish_reason") == "length", prompt_tokens, tuple(ids) if is_ids else None
    )


def _explain_status(error: urllib.error.HTTPError, place: str) -> str:
    raw = b""
    with contextlib.suppress(OSError, http.client.HTTPException), error:
        raw = error.read(MAX_REPLY_BYTES)
    try:
        said = _find_message(json.loads(raw))
    except (ValueError, RecursionError):
        said = ""
    said = _show(said or raw.decode(errors="replace") or str(error.reason))
    advice = {
        401: "; set VLLM_API_KEY to the server's key",
        403: "; set VLLM_API_KEY to the server's key",
        404: "; look at --server (it ends in /v1) and --served-name",
        413: "; what stands before the server takes no request of this size",
        429: "; the server is busy, ask later",
        503: "; the server is not ready, ask later",
    }.get(error.code, "; look at the server's log" if error.code >= 500 else "")
    if 300 <= error.code < 400:
        return f"{place} sends elsewhere ({error.code}, {_show(str(error.headers.get('Location')))}); give that address"
    return f"{place} answered {error.code}: {said}{advice}"


def _find_message(answer: Any) -> str:
    """What a server says is wrong: {"error": {"message"}}, {"error": text}, {"message"} or {"detail"}."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer)
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or ""
    return error if isinstance(error, str) else json.dumps(error)


def _explain_timeout(server: Server, place: str) -> str:
    return f"{place} gave no answer within {server.timeout_s:g} s; look at the server's log and load"


def _show(text: str) -> str:
    """Foreign text on one line, harmless to a terminal, and not endless."""
    text = " ".join(text.split())
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "\u2026"
