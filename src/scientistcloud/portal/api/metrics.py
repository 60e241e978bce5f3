"""The figures of queue and workers, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi import APIRouter
from starlette.responses import Response

from scientistcloud import __version__
from scientistcloud.jobs.figures import COUNTED, Figure, gauges
from scientistcloud.jobs.handling import living
from scientistcloud.portal.dependencies import Operator, TheStats, TheStore
from scientistcloud.portal.exposition import CONTENT_TYPE, text
from scientistcloud.records import Count

router = APIRouter(tags=["health"])

_BUILD = Figure("scientistcloud_build_info", "gauge", "The version that serves")


@router.get("/metrics", response_class=Response)
def metrics(_operator: Operator, store: TheStore, stats: TheStats) -> Response:
    """What waits and for what, claims, outcomes, durations, lease losses, wake-ups. Operators alone; 503 where the
    database does not answer."""
    alive = living(store.workers.all(), now=store.clock.now())
    build = Count(name=_BUILD.name, labels=(("version", __version__),), value=1)
    families = [(_BUILD, [build]), *gauges(stats.get(), alive), *_counted(store.counters.all())]
    return Response(text(families), media_type=CONTENT_TYPE)


def _counted(counts: Iterable[Count]) -> Iterator[tuple[Figure, list[Count]]]:
    """What workers of every version counted, by family; what this version does not know is left out."""
    counts = list(counts)
    for figure in COUNTED:
        names = {figure.name}
        if figure.kind == "histogram":
            names = {f"{figure.name}_{part}" for part in ("bucket", "sum", "count")}
        yield figure, [count for count in counts if count.name in names]
