"""Orbits, frames, measurements, fusion and probability: pure numpy. No I/O, no clock."""
