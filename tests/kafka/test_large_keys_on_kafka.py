"""Bad records with large keys on the real Kafka: the same test, and what its default limit lets
through.
"""

from __future__ import annotations

import pytest

from tests.process.test_large_keys import test_bad_records_with_large_keys

pytestmark = [pytest.mark.kafka, pytest.mark.process]
__all__ = ["test_bad_records_with_large_keys"]
