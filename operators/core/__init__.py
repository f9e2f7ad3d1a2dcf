"""The pure decisions of the operators: no I/O, no clock, no randomness, no logging."""
