"""The library of the pipeline: all that more than one process needs. Not a process itself."""
