"""The benchmark: ``make bench`` prints the figures of SPEC 10 and writes them to build/bench.json.

It measures real processes and asserts no time; what a figure must be is printed beside it.
"""
