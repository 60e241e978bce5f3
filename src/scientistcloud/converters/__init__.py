"""Readers of foreign formats: many readers, one writer."""
