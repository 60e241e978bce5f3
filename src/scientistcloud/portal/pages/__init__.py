"""The pages: one a file, with a template of the same name."""
