"""Shared-memory rings and the board. Not durable truth: memory that outlives its users."""
