"""Figures as Prometheus reads them: its text format 0.0.4. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from scientistcloud.jobs.figures import Figure
from scientistcloud.records import Count

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(families: Iterable[tuple[Figure, Iterable[Count]]]) -> str:
    """The families with their series; a family without one is announced all the same."""
    return "".join(f"{line}\n" for family in families for line in _lines(*family))


def _lines(figure: Figure, counts: Iterable[Count]) -> Iterator[str]:
    yield f"# HELP {figure.name} {_escaped(figure.meaning)}"
    yield f"# TYPE {figure.name} {figure.kind}"
    # Of a histogram, all of one label set stand together, its buckets ascending.
    for count in sorted(counts, key=_place):
        labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in count.labels)
        yield f"{count.name}{'{' + labels + '}' if labels else ''} {_number(count.value)}"


def _place(count: Count) -> tuple[tuple[tuple[str, str], ...], str, float]:
    bound = math.inf
    labels = []
    for name, value in count.labels:
        if name == "le":
            bound = float(value)
        else:
            labels.append((name, value))
    return tuple(labels), count.name, bound


def _number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', r"\"")
