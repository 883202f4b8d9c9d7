"""What a server may answer, and the one line that comes of it; the server is real, its answers are recorded."""

from __future__ import annotations

import pytest
from recorded_server import NAME, Recorded, completion, error

from evaluation.serving.client import Server, ServerError, ask, choose_model

BODY = {"model": NAME, "messages": [{"role": "user", "content": "Where?"}]}
ANSWER = "[(12.3, -0.0042)]"


def refuse(recorded, *answers, timeout_s=5.0, **options) -> str:
    """The one line of an answer that is none."""
    recorded.play(*answers, **options)
    with pytest.raises(ServerError) as info:
        ask(Server(recorded.url, timeout_s=timeout_s), BODY)
    line = str(info.value)
    assert "\n" not in line and line.startswith(f"{recorded.url}/chat/completions ")
    return line


def test_an_answer_is_its_text_its_tokens_and_its_prompt(recorded):
    recorded.play(completion(ANSWER, [5, 6, 7]))
    reply = ask(Server(recorded.url), BODY)
    assert (reply.text, reply.num_tokens, reply.is_cut) == (ANSWER, 3, False)
    assert (reply.prompt_tokens, reply.prompt_ids) == (3, (5, 6, 7))


def test_an_answer_that_met_the_token_limit_is_cut(recorded):
    recorded.play(completion("[(12.3", finish_reason="length"))
    assert ask(Server(recorded.url), BODY).is_cut


def test_a_server_that_tells_no_token_ids_is_taken_as_it_is(recorded):
    answer = completion(ANSWER)
    del answer["prompt_token_ids"], answer["usage"]
    recorded.play(answer)
    reply = ask(Server(recorded.url), BODY)
    assert (reply.prompt_ids, reply.prompt_tokens, reply.num_tokens) == (None, 0, 0)


def test_the_body_arrives_as_it_was_made_and_the_key_only_where_given(recorded):
    recorded.play(completion(ANSWER))
    ask(Server(recorded.url + "/"), BODY)
    ask(Server(recorded.url, api_key="secret"), BODY)
    (path, without, body), (_, with_key, _) = recorded.sent
    assert (path, body) == ("/v1/chat/completions", BODY)
    assert "Authorization" not in without and with_key["Authorization"] == "Bearer secret"


# Errors


def test_a_prompt_that_is_too_long_is_said_in_the_servers_words(recorded):
    said = "This model's maximum context length is 1024 tokens.\nHowever, you requested 1800 tokens"
    assert refuse(recorded, error(said, 400), status=400).endswith(
        "answered 400: This model's maximum context length is 1024 tokens. However, you requested 1800 tokens"
    )


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "set VLLM_API_KEY to the server's key"),
        (404, r"look at --server \(it ends in /v1\) and --served-name"),
        (413, "what stands before the server takes no request of this size"),
        (429, "the server is busy, ask later"),
        (500, "look at the server's log"),
        (503, "the server is not ready, ask later"),
    ],
)
def test_an_error_comes_with_what_to_do(recorded, status, advice):
    import re

    assert re.search(rf"answered {status}: no; {advice}$", refuse(recorded, error("no", status), status=status))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"object": "error", "message": "older servers"}, "older servers"),
        ({"error": "a text alone"}, "a text alone"),
        ({"detail": "Not Found"}, "Not Found"),
        ("<html>bad gateway</html>", "<html>bad gateway</html>"),
        ("", "Bad Request"),
    ],
)
def test_an_error_of_another_shape_is_shown_too(recorded, answer, said):
    assert f"answered 400: {said}" in refuse(recorded, answer, status=400)


def test_an_error_inside_a_good_status_is_an_error(recorded):
    assert refuse(recorded, error("engine died", 500)).endswith("gave no answer: engine died")


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{}]}, [], None, {"choices": "none"}])
def test_json_without_an_answer_is_shown(recorded, answer):
    assert "gave no answer: " in refuse(recorded, answer)


def test_an_answer_without_text_is_shown(recorded):
    assert 'gave an answer without text: {"role": "assistant", "content": null' in refuse(recorded, completion(None))


def test_a_refusal_is_one(recorded):
    answer = completion("", message={"content": "", "refusal": "I cannot look at this."})
    assert refuse(recorded, answer).endswith("refused to answer: I cannot look at this.")


def test_a_stream_is_refused_before_it_is_read(recorded):
    chunk = 'data: {"choices": [{"delta": {"content": "[(1"}}]}\n\n'
    line = refuse(recorded, chunk * 3, kind="text/event-stream", keep_back=100)
    assert line.endswith("streams its answer although it was told not to; ask the server itself, no proxy")


def test_a_page_is_no_answer(recorded):
    line = refuse(recorded, "<html>\x1b[31mwelcome</html>", kind="text/html")
    assert r"answered text/html, not JSON: <html>\x1b[31mwelcome</html>; is it an OpenAI-compatible server?" in line


@pytest.mark.parametrize(
    "status, said", [(200, "answered application/json, not JSON: [[["), (400, "answered 400: [[[")]
)
def test_a_bottomless_answer_is_one_short_line(recorded, status, said):
    line = refuse(recorded, "[" * 100_000 + "]" * 100_000, status=status)
    assert said in line and len(line) < 500


def test_a_long_complaint_is_cut(recorded):
    assert len(refuse(recorded, error("x" * 5000, 400), status=400)) < 500


def test_an_endless_answer_is_not_read_to_its_end(recorded, monkeypatch):
    monkeypatch.setattr("evaluation.serving.client.MAX_REPLY_BYTES", 1 << 20)
    recorded.play(completion("x" * (2 << 20)))
    with pytest.raises(ServerError, match="answered more than 1 MiB; that is no answer"):
        ask(Server(recorded.url), BODY)


# Time and wires


def test_a_server_that_says_nothing_is_given_up(recorded):
    line = refuse(recorded, completion(ANSWER), wait_s=1.5, timeout_s=0.3)
    assert line.endswith("gave no answer within 0.3 s; look at the server's log and load")


def test_a_server_that_drips_is_given_up_although_each_byte_is_in_time(recorded):
    assert "within 0.5 s" in refuse(recorded, completion(ANSWER), drip_s=0.05, timeout_s=0.5)


def test_an_answer_that_breaks_off_is_named(recorded):
    assert "broke off its answer (IncompleteRead)" in refuse(recorded, completion(ANSWER), keep_back=10)


def test_a_server_that_is_not_there_says_how_it_is_started(recorded):
    url = recorded.url
    recorded.close()
    with pytest.raises(
        ServerError, match=r"no server answers at http.*refused.*scripts/vllm_command.py prints"
    ) as info:
        ask(Server(url, timeout_s=2), BODY)
    assert "\n" not in str(info.value)


def test_a_key_is_not_carried_to_another_place(recorded):
    line = refuse(recorded, "", status=307, headers={"Location": "http://elsewhere.example/v1"})
    assert line.endswith("sends elsewhere (307, http://elsewhere.example/v1); give that address")
    assert len(recorded.sent) == 1


@pytest.mark.parametrize("url", ["localhost:8000/v1", "", "file:///etc/passwd", "http://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ServerError, match="is no address of a server; give one like http://localhost:8000/v1"):
        Server(url)


# Names


def test_the_only_model_needs_no_name(recorded):
    assert choose_model(Server(recorded.url), "") == NAME


def test_a_model_that_is_not_served_is_refused_with_those_that_are(recorded):
    with pytest.raises(ServerError, match="serves driving, not 'drivnig'; pass --served-name"):
        choose_model(Server(recorded.url), "drivnig")


def test_one_of_several_must_be_named(recorded):
    recorded.models["data"].append({"id": "Qwen/Qwen3-VL-4B-Instruct"})
    with pytest.raises(ServerError, match="serves driving, Qwen/Qwen3-VL-4B-Instruct; say which with --served-name"):
        choose_model(Server(recorded.url), "")


def test_a_list_that_is_none_is_shown(recorded):
    recorded.models = Recorded({"models": []})
    with pytest.raises(ServerError, match=r'models lists no models: {"models": \[\]}'):
        choose_model(Server(recorded.url), "")


def test_the_key_is_read_where_vllm_reads_it(recorded, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    recorded.play(completion(ANSWER))
    ask(Server.from_environment(recorded.url), BODY)
    assert recorded.sent[0][1]["Authorization"] == "Bearer secret"
