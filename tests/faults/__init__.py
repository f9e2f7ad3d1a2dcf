"""What every fault costs, counted and timed: ``make faults``. The tests assert; this measures."""
