"""Row, frame, wire and alert formats: bytes and dtypes. Not their storage nor their meaning."""
