"""Where facts lie: one folder a database, with the same file names in each."""
