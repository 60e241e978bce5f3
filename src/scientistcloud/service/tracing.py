"""A span of OpenTelemetry for each attempt, where OpenTelemetry's own environment variables ask for one.

Nothing of it is imported otherwise: it is the extra ``scientistcloud[otel]``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from scientistcloud import __version__
from scientistcloud.records import Job, JobError
from scientistcloud.settings import tracing_exporter

logger = logging.getLogger(__name__)

Ended = Callable[[str, JobError | None], None]
"""``ended(outcome, error)``: how the attempt ended."""


class Tracing(Protocol):
    """Where spans go."""

    def began(self, job: Job) -> Ended:
        """An attempt at `job` begins; what it gives is called at its end."""

    def close(self) -> None:
        """Send what is left, within a few seconds."""


class NoTracing:
    """Nobody asked for spans."""

    def began(self, job: Job) -> Ended:  # noqa: ARG002  the protocol's
        return lambda _outcome, _error: None

    def close(self) -> None:
        """Nothing is left."""


class OpenTelemetry:
    """Spans by OpenTelemetry, sent in the background. `exporter`: ``otlp`` or ``console``."""

    def __init__(self, exporter: str) -> None:
        sdk: Any = import_module("opentelemetry.sdk.trace")
        export: Any = import_module("opentelemetry.sdk.trace.export")
        resources: Any = import_module("opentelemetry.sdk.resources")
        self._status: Any = import_module("opentelemetry.trace")
        if exporter == "console":
            sender = export.ConsoleSpanExporter()
        else:
            sender = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is given here.
        named = resources.Resource.create().merge(resources.Resource({"service.version": __version__}))
        if named.attributes.get("service.name", "unknown_service").startswith("unknown_service"):
            named = named.merge(resources.Resource({"service.name": "scientistcloud-worker"}))
        self._provider = sdk.TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(export.BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("scientistcloud", __version__)

    def began(self, job: Job) -> Ended:
        span = self._tracer.start_span(
            job.job_type,
            kind=self._status.SpanKind.CONSUMER,
            attributes={
                "dataset_uuid": job.dataset_uuid,
                "job_id": job.job_id,
                "job_type": job.job_type,
                "attempt": job.attempt,
                "token": job.token,
                "worker_id": job.worker_id or "",
            },
        )

        def ended(outcome: str, error: JobError | None) -> None:
            span.set_attribute("outcome", outcome)
            if error is not None:
                span.set_attribute("error.type", error.type)
                span.set_status(self._status.StatusCode.ERROR, error.message)
            span.end()

        return ended

    def close(self) -> None:
        self._provider.shutdown()


def tracing() -> Tracing:
    """As the environment asks; where what it asks for is not installed, none, and a line that says so."""
    exporter = tracing_exporter()
    if exporter is None:
        return NoTracing()
    try:
        return OpenTelemetry(exporter)
    except ImportError as missing:
        logger.warning(
            "spans are asked for and %s is not installed; `pip install 'scientistcloud[otel]'`, or unset the "
            "variables OTEL_…",
            missing.name,
        )
        return NoTracing()
