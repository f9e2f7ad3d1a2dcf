"""Real servers for tests and for ``make run-kafka``: fetched once, run on loopback, stopped by pid.

Apache Kafka, VersityGW (S3) and Toxiproxy, without Docker. Not part of the pipeline: it meets them
only as addresses.
"""
