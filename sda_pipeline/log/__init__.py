"""The durable per-source log. Not the broker, not the correlator store."""
