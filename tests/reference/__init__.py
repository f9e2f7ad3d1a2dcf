"""A slow, obviously right pipeline to hold the fast one to: loops over plain numbers.

Imports none of the fast maths.
"""
