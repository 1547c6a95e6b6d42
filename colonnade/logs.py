"""Logs: the logger `colonnade`, on stderr, as lines for people or as JSON, with secrets removed.

`COLONNADE_LOG=json` gives one JSON object a line, `COLONNADE_LOG_LEVEL` the least level (default: warning). The
command line sets this up; a program that uses Colonnade as a library has its own logging, to which the logger
`colonnade` belongs like any other, and may add `SecretsFilter` to its handlers.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from db.errors import ConfigError, did_you_mean

__all__ = ["FORMAT_VARIABLE", "LEVEL_VARIABLE", "JsonFormatter", "SecretsFilter", "configure_logs"]

FORMAT_VARIABLE: Final = "COLONNADE_LOG"
LEVEL_VARIABLE: Final = "COLONNADE_LOG_LEVEL"

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "error": logging.ERROR,
    "info": logging.INFO,
    "warning": logging.WARNING,
}
_FORMATS = ("json", "text")
_USUAL = frozenset((*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"))


def configure_logs(environment: Mapping[str, str] = os.environ) -> None:
    """Send the logger `colonnade` to stderr as the environment asks; harmless when repeated.

    Raises `ConfigError` for a format or a level that there is not.
    """
    from providers.scrub import remember_environment

    level = _choice(environment, LEVEL_VARIABLE, tuple(_LEVELS), "warning")
    style = _choice(environment, FORMAT_VARIABLE, _FORMATS, "text")
    remember_environment(environment)
    handler = _StderrHandler()
    handler.addFilter(SecretsFilter())
    handler.setFormatter(JsonFormatter() if style == "json" else _TextFormatter())
    logger = logging.getLogger("colonnade")
    for earlier in [known for known in logger.handlers if isinstance(known, _StderrHandler)]:
        logger.removeHandler(earlier)
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level])
    logger.propagate = False


class SecretsFilter(logging.Filter):
    """Takes keys out of a record: its message, its extra fields and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the record; it always passes."""
        from providers.scrub import redact

        record.msg, record.args = redact(_message(record)), None
        for name, value in _extra(record).items():
            if not isinstance(value, int | float | bool | None):
                setattr(record, name, redact(str(value)))
        if record.exc_info and record.exc_info[1] is not None:
            # Formatted here, since a formatter would do so after this filter.
            record.exc_text = redact("".join(traceback.format_exception(record.exc_info[1])).rstrip())
            record.exc_info = None
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the extra fields, and the trace that is open."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
            **_trace(),
        }
        if record.exc_info:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["error"] = record.exc_text
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at the moment, so that a progress display can keep its bar below the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - as logging does it: told on stderr, and the program goes on
            self.handleError(record)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (KeyError, TypeError, ValueError):
        # Logging itself would print message and arguments as they are, keys and all.
        return f"{record.msg} {record.args}"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


def _trace() -> dict[str, str]:
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _choice(environment: Mapping[str, str], variable: str, choices: tuple[str, ...], usual: str) -> str:
    chosen = environment.get(variable, "").strip().lower() or usual
    if chosen not in choices:
        raise ConfigError(f"{variable} is {chosen!r}; it takes {', '.join(choices)}.{did_you_mean(chosen, choices)}")
    return chosen
