"""A deterministic simulation of the chain: real operators; simulated processes, disk and time."""
