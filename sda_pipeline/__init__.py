"""The library of the conjunction pipeline: everything more than one process needs. Not a process itself."""
