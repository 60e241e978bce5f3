"""What a job can do: one job type a file."""
