"""One process per operator: thin shells around the pure core. Never imports the supervisor."""
