"""``sda-reprocess``: rejected records back into the pipeline, and a look at the DLQ they lie in."""
