"""Getting files from elsewhere: guarded, resumable, bounded."""
