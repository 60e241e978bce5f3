"""The queue, keyed by `dataset_uuid`."""
