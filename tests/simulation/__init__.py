"""A deterministic simulation of the whole chain: real operators, simulated processes, disk and time."""
