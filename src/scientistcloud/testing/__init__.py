"""For authors of adapters and converters: contract suites and samples."""
