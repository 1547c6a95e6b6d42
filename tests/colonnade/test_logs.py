"""Logs: lines for people or for programs, at the level that was asked for, and no key in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from colonnade.logs import JsonFormatter, SecretsFilter, configure_logs
from db.errors import ConfigError
from providers.errors import RateLimited
from providers.notices import Throttle, log_retry
from providers.scrub import redact, remember, remember_environment
from tests.conftest import CommandResult, ServerProcess
from tests.helpers import write_architecture, write_models
from tests.recording import recording

KEY = "planted-key-0001-zyxwvu"
LOG = logging.getLogger("colonnade.test")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_text_at_warning_is_the_usual(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs({})
    configure_logs({})
    LOG.info("not this")
    LOG.warning("the server %s is slow", "a")
    assert capsys.readouterr().err == "WARNING the server a is slow\n"


def test_json_lines_carry_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs({"COLONNADE_LOG": "json", "COLONNADE_LOG_LEVEL": "DEBUG"})
    LOG.debug("attempt %d", 2, extra={"model": "m", "wait_s": 0.5, "place": Path("a")})
    (line,) = lines(capsys)
    assert str(line.pop("time")).endswith("+00:00")
    assert line == {
        "level": "debug",
        "logger": "colonnade.test",
        "message": "attempt 2",
        "model": "m",
        "wait_s": 0.5,
        "place": "a",
    }


def test_keys_are_taken_out_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs({"COLONNADE_LOG": "json", "MY_SERVICE_API_KEY": KEY, "DB_PASSWORD": "hunter2-hunter2"})
    try:
        raise ValueError(f"refused {KEY}")
    except ValueError:
        LOG.exception("asked with %s", KEY, extra={"header": f"x {KEY}", "address": "redis://me:hunter2-hunter2@h/0"})
    LOG.warning("a stranger's sk-abcdefghijklmnop0123 and postgresql://me:pw@h/db")
    said = capsys.readouterr().err
    assert KEY not in said
    assert "hunter2" not in said
    assert "pw@" not in said
    assert "sk-abc" not in said
    first, second = (json.loads(line) for line in said.splitlines())
    assert first["message"] == "asked with [key]"
    assert first["header"] == "x [key]"
    assert first["address"] == "redis://[key]@h/0"
    assert "ValueError: refused [key]" in first["error"]
    assert second["message"] == "a stranger's [key] and postgresql://[key]@h/db"


def test_a_filter_for_a_handler_of_ones_own() -> None:
    remember(KEY)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    LOG.addHandler(handler)
    try:
        LOG.error("with %s", KEY)
    finally:
        LOG.removeHandler(handler)
    assert stream.getvalue() == "with [key]\n"


def test_json_without_the_filter_still_has_the_traceback() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        record = LOG.makeRecord("a", 40, "f", 1, "m", (), (type(error), error, error.__traceback__))
    assert "ValueError: x" in json.loads(JsonFormatter().format(record))["error"]


def test_a_message_that_does_not_fit_its_arguments_is_logged_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs({"SOME_TOKEN": KEY})
    LOG.warning("%d", KEY)
    assert capsys.readouterr().err == "WARNING %d ('[key]',)\n"


def test_a_line_that_cannot_be_written_does_not_end_the_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs({})
    told: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Handler, "handleError", lambda _, record: told.append(record))
    closed = io.StringIO()
    closed.close()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", closed)
        LOG.warning("into the void")
    assert [record.getMessage() for record in told] == ["into the void"]


def test_a_longer_key_is_taken_out_whole() -> None:
    remember("abcdef-123456")
    remember("abcdef-123456-the-longer-one")
    remember("x")
    remember(None)
    remember_environment({"HF_TOKEN": " spaced-value ", "TOKENIZERS_PARALLELISM": "false-value"})
    assert redact("abcdef-123456-the-longer-one x spaced-value false-value") == "[key] x [key] false-value"


def test_lines_inside_a_trace_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs({"COLONNADE_LOG": "json"})
    with recording() as recorded:
        from providers.telemetry import span

        with span("one", {}):
            LOG.warning("inside")
        LOG.warning("outside")
        context = recorded.spans[0].context
    inside, outside = lines(capsys)
    assert context is not None
    assert inside["trace_id"] == f"{context.trace_id:032x}"
    assert inside["span_id"] == f"{context.span_id:016x}"
    assert "trace_id" not in outside


@pytest.mark.parametrize(("name", "value"), [("COLONNADE_LOG", "jsn"), ("COLONNADE_LOG_LEVEL", "warn")])
def test_an_unknown_choice_is_one_sentence(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is '{value}'; it takes .*Did you mean"):
        configure_logs({name: value})


def test_the_command_line_refuses_it_with_code_2(
    cli: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLONNADE_LOG", "xml")
    done = cli("techniques")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: COLONNADE_LOG is 'xml'")


def test_retries_are_warned_of_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs({"COLONNADE_LOG": "json"})
    for attempt in (1, 2, 3):
        log_retry("model-of-this-test", RateLimited("429: slow down"), attempt=attempt, wait_s=0.25)
    (line,) = lines(capsys)
    assert line["message"] == ("model-of-this-test: attempt 1 failed (rate_limit), the next in 0.2 s: 429: slow down")
    assert (line["model"], line["kind"], line["attempt"], line["wait_s"]) == (
        "model-of-this-test",
        "rate_limit",
        1,
        0.25,
    )


def test_a_throttle_counts_what_it_holds_back() -> None:
    now = 0.0
    throttle = Throttle(10, clock=lambda: now)
    assert [throttle("a"), throttle("a"), throttle("b"), throttle("a")] == [0, None, 0, None]
    now = 10.0
    assert [throttle("a"), throttle("a")] == [2, None]


def test_a_run_with_faults_logs_json_without_its_key(
    cli: Callable[..., CommandResult],
    model_server: Callable[..., ServerProcess],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLONNADE_LOG", "json")
    monkeypatch.setenv("M_API_KEY", KEY)
    server = model_server("--fault-rate", "0.5", "--fault-seed", "5", "--faults", "503")
    models = write_models(workplace, server.url, n=False)
    settings = models.read_text().replace("retries: 1", "retries: 9")
    models.write_text(settings.replace("    base_url:", "    api_key_env: M_API_KEY\n    base_url:"))
    done = cli("run", write_architecture(workplace, samples=8), f"Is {KEY} a key?")
    assert done.code == 0, done.err
    logged = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert [(line["level"], line["model"], line["kind"]) for line in logged] == [("warning", "m", "overloaded")]
    assert KEY not in done.err
