"""The simulator behind ``sda-sim``: a synthetic catalogue and the traffic that observes it."""
