"""Command-line tools that are not the supervisor. Thin shells over the library."""
