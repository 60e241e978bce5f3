"""The files that every page needs: the one folder that asks for no log-in."""

from __future__ import annotations

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from scientistcloud.portal.guards import FILE_POLICY, VIEWER_SCRIPT_POLICY

VIEWER = "vendor/neuroglancer/"


class PublicFiles(StaticFiles):
    """Static files that browsers ask for again only to hear that nothing changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        of_viewer = path.startswith(VIEWER)
        # The viewer's names hold a hash of their content; ours change with each version.
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if of_viewer else "no-cache"
        scripts = of_viewer and path.endswith(".js")
        response.headers["Content-Security-Policy"] = VIEWER_SCRIPT_POLICY if scripts else FILE_POLICY
        return response
