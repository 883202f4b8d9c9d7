"""A real HTTP server on this machine that plays back recorded answers and keeps what it was sent.

The shapes are those of vLLM's OpenAI-compatible server: completions, lists of models, and its errors.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = "driving"


def completion(text: str | None, prompt_ids: list[int] | None = None, **changes: Any) -> dict[str, Any]:
    """A chat completion as vLLM gives it with return_token_ids."""
    answer = {
        "id": "chatcmpl-1f0c", "object": "chat.completion", "created": 1763640000, "model": NAME,
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": text, "refusal": None, "tool_calls": []},
            "logprobs": None, "finish_reason": "stop", "stop_reason": None, "token_ids": [1, 2, 3],
        }],
        "usage": {"prompt_tokens": len(prompt_ids or ()), "total_tokens": 3, "completion_tokens": 3},
        "prompt_token_ids": prompt_ids,
    }  # fmt: skip
    answer["choices"][0] |= changes
    return answer


def error(message: str, code: int) -> dict[str, Any]:
    """An error as vLLM gives it."""
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": code}}


@dataclass
class Recorded:
    """What is played back to one request.

    Attributes:
        answer: JSON, or text as it is.
        status, kind, headers: of the HTTP answer.
        wait_s: before anything is sent.
        drip_s: between two bytes.
        keep_back: bytes that are announced and never come.
    """

    answer: Any
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    drip_s: float = 0.0
    keep_back: int = 0


class RecordedServer:
    """Serves `play`'s answers in order, the last one for ever; `sent` holds (path, headers, body) of each request."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, str], Any]] = []
        self.models: Any = {"object": "list", "data": [{"id": NAME, "object": "model", "max_model_len": 4096}]}
        self.answers: list[Recorded] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._note(self, None)
                outer._send(self, outer.models if isinstance(outer.models, Recorded) else Recorded(outer.models))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer._note(self, json.loads(self.rfile.read(length)))
                outer._send(self, outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0])

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.sent if body is not None]

    def play(self, *answers: Any, **options: Any) -> None:
        self.answers = [one if isinstance(one, Recorded) else Recorded(one, **options) for one in answers]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def _note(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        self.sent.append((handler.path, dict(handler.headers), body))

    def _send(self, handler: BaseHTTPRequestHandler, recorded: Recorded) -> None:
        raw = recorded.answer if isinstance(recorded.answer, str) else json.dumps(recorded.answer)
        data = raw.encode()
        time.sleep(recorded.wait_s)
        try:
            handler.send_response(recorded.status)
            handler.send_header("Content-Type", recorded.kind)
            handler.send_header("Content-Length", str(len(data) + recorded.keep_back))
            for name, value in recorded.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            for start in range(0, len(data), 1 if recorded.drip_s else len(data)):
                handler.wfile.write(data[start : start + 1 if recorded.drip_s else None])
                time.sleep(recorded.drip_s)
        except OSError:
            pass  # the client has gone
        handler.close_connection = True
