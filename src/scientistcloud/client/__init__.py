"""The Python client: over HTTP alone.

::

    from scientistcloud.client import Client, find_portal

    with Client(server="http://127.0.0.1:8080", token="…") as client:
        dataset_uuid = client.upload([Path("scan.tif")])
        print(client.wait(dataset_uuid)["status"])
"""

from scientistcloud.client.address import find_portal
from scientistcloud.client.client import Client
from scientistcloud.client.files import LocalFile, collect

__all__ = ["Client", "LocalFile", "collect", "find_portal"]
