"""Dead-letter entries and files. Not the decision to reject."""
