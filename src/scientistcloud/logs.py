"""How log lines look: an event with its facts as ``key=value``, or the same as a line of JSON.

Everybody logs in the first form, with `facts` for what is not a plain word: the line is good to read, and what it
says of `dataset_uuid`, `job_id`, `worker_id` can be searched. The second form takes the line apart again.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FACT = re.compile(r'(?<!\S)(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_PLAIN = re.compile(r'[^\s"=]+')
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]+)?(e[+-]?[0-9]+)?")


def configure(form: str, *, level: int = logging.INFO) -> None:
    """Send log lines to standard error, `form` being ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def facts(**named: object) -> str:
    """``key=value`` for each of `named` that is not None, quoted where need be; begins with a space.

    Numbers stay numbers in JSON; a text that looks like one is quoted, and stays a text.
    """
    return "".join(f" {name}={_value(value)}" for name, value in named.items() if value is not None)


def _value(value: object) -> str:
    text = str(value)
    if isinstance(value, int | float) or (_PLAIN.fullmatch(text) and not _NUMBER.fullmatch(text)):
        return text
    return json.dumps(text, ensure_ascii=False)


class JsonLines(logging.Formatter):
    """Each record as one JSON object a line: `time`, `level`, `logger`, `event`, and its facts by name."""

    def format(self, record: logging.LogRecord) -> str:
        event, found = taken_apart(record.getMessage())
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        line |= {name: value for name, value in found.items() if name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def taken_apart(message: str) -> tuple[str, dict[str, str | float]]:
    """What happened, and the facts that were said with it."""
    found: dict[str, str | float] = {}
    for name, value in _FACT.findall(message):
        if value.startswith('"'):
            found[name] = _unquoted(value)
        else:
            found[name] = json.loads(value) if _NUMBER.fullmatch(value) else value
    return " ".join(_FACT.sub("", message).split()), found


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value))
    except ValueError:  # written by hand, with escapes of another kind
        return value.strip('"')
