"""LMDB and SQLite stores, each with one writer. Not the logic that decides what is stored."""
