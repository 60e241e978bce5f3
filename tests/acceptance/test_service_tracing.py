"""A span of OpenTelemetry for each attempt, sent to a collector over HTTP."""

from __future__ import annotations

import gzip
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from service_site import Site

from scientistcloud.service.tracing import NoTracing, tracing
from scientistcloud.settings import tracing_exporter


class Collector:
    """Takes spans as an OTLP collector does; `spans` is what has come, as dicts."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: Any) -> None:
        for resource in request.resource_spans:
            self.services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
                    self.spans.append({"name": span.name, "error": span.status.message, **values})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def test_each_attempt_is_a_span_with_its_data_set_and_job(
    site: Site, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
    worker = site.worker()
    good, bad = site.dataset(), site.dataset()
    done = site.ended(site.job(good))
    broken = site.ended(site.job(bad, "read_damaged"))

    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0

    spans = {span["job_id"]: span for span in collector.spans}
    assert collector.services == {"scientistcloud-worker"}
    assert spans.keys() == {done.job_id, broken.job_id}
    assert spans[done.job_id] == {
        "name": "dataset_conversion",
        "error": "",
        "dataset_uuid": good,
        "job_id": done.job_id,
        "job_type": "dataset_conversion",
        "attempt": 1,
        "token": 1,
        "worker_id": "ada",
        "outcome": "completed",
    }
    assert (spans[broken.job_id]["outcome"], spans[broken.job_id]["error.type"]) == ("failed", "UnreadableSource")
    assert "scan_07.tif" in spans[broken.job_id]["error"]


def test_a_collector_that_does_not_answer_is_no_reason_to_fail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    worker = site.worker()

    assert site.ended(site.job(site.dataset())).status == "completed"
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, None),
        ({"EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp"),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "otlp"),
        ({"TRACES_EXPORTER": "console"}, "console"),
        ({"TRACES_EXPORTER": "none", "EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, None),
        ({"SDK_DISABLED": "true", "TRACES_EXPORTER": "otlp"}, None),
    ],
)
def test_the_variables_of_opentelemetry_decide(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], exporter: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)

    assert tracing_exporter() == exporter


def test_spans_that_are_asked_for_and_not_installed_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)  # as if it were not there

    assert isinstance(tracing(), NoTracing)
    assert "scientistcloud[otel]" in caplog.text
