"""The generation of a partition, as logs, rejects and quarantine name it: u4. Pure.

``times << 24 | life``: how often the partition has begun anew for this source (modulo 256), and the
number by which the broker tells its lives apart (the embedded broker's counter; of Kafka 24 bits of
a hash of the topic's id). Recreated: another life. Truncated: the same life, but begun anew, so its
offsets mean other records. Either way the generation changes; which one is newer, ``times`` says.
"""

from __future__ import annotations

from sda_pipeline.limits import LIFE_BITS

_LIFE = (1 << LIFE_BITS) - 1
_TIMES = 0xFF


def life_of(generation: int) -> int:
    """What the broker said."""
    return generation & _LIFE


def begun_anew(generation: int, life: int) -> int:
    """The generation after ``generation``, in a partition of this life."""
    assert 0 <= life <= _LIFE, "a broker's number has its bound"
    times = (generation >> LIFE_BITS) + 1
    return (times & _TIMES) << LIFE_BITS | life


def follows(generation: int, before: int) -> bool:
    """Whether a source that stood in ``before`` may stand in ``generation`` one record later.

    Between two records a partition may have begun anew several times: at most half of all.
    """
    times = ((generation >> LIFE_BITS) - (before >> LIFE_BITS)) & _TIMES
    return generation == before or 0 < times <= _TIMES // 2
