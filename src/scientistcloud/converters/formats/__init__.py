"""One format a file; none imports another, and heavy libraries are imported only here."""
