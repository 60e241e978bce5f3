"""Every page in both themes, looked over by axe: names of controls, contrast, order of headings, roles."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from axe_playwright_python.sync_playwright import Axe
from browser_site import Browsing, Served
from playwright.sync_api import Browser

LOGGED_IN = "from here on with a log-in"


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(browser: Browser, served: Served, tmp_path: Path, scheme: str) -> None:
    values = np.random.default_rng(6).integers(0, 900, (4, 5, 12, 16)).astype("u2")
    tifffile.imwrite(tmp_path / "stack.tif", values[0, :, :, :], metadata={"axes": "ZYX"})
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file["detector/frames"] = values
        file["detector"].attrs["NX_class"] = "NXdetector"
    (tmp_path / "broken.tif").write_bytes(b"II*\0 this is no picture")
    stack, broken = (served.uploaded(tmp_path / name) for name in ("stack.tif", "broken.tif"))
    with served.client() as client:
        scan = client.upload([tmp_path / "scan.nxs"], name="scan", sensor="4D_NEXUS")
        client.wait(scan)
        job = client.jobs(stack)[0]["job_id"]
        client.describe(stack, public=True, description="A stack.", tags=["noise"])
    # axe is a script of its own; the pages' policy, which would refuse it, is proved elsewhere.
    browsing = Browsing(browser, served, color_scheme=scheme, bypass_csp=True)
    browsing.expected.append("/nowhere")
    page, found = browsing.page, []
    try:
        ready = {stack: "#stage[data-ready]", scan: "#frame-pane[data-ready]"}
        public = ["/public", "/public?q=nothing", f"/datasets/{stack}", "/nowhere"]
        paths = [
            "/",
            "/?q=nothing",
            "/public",
            "/jobs",
            f"/jobs/{job}",
            "/import",
            "/deleted",
            "/nowhere",
            "/login",
        ]
        own = [*paths, *(f"/datasets/{uuid}" for uuid in (stack, scan, broken))]
        for path in [*public, LOGGED_IN, *own]:
            if path == LOGGED_IN:
                browsing.log_in()
                continue
            browsing.open(path)
            if waited := ready.get(path.rpartition("/")[2]):
                page.locator(waited).wait_for()
            # What is folded up is looked at too; the viewer's frame is neuroglancer's own page.
            page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            page.evaluate("document.querySelectorAll('iframe').forEach((each) => each.remove())")
            for each in Axe().run(page).response["violations"]:
                found.append((path, each["id"], [node["target"] for node in each["nodes"]][:3]))
    finally:
        browsing.close()

    assert found == []
