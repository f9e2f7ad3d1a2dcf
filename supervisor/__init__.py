"""Parent of every process: plans, spawns, watches, restarts, drains. Never imports operators."""
