"""The Python client, over HTTP only."""
