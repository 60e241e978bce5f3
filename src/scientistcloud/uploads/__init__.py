"""Bytes arriving."""
