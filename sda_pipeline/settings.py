"""The settings pure code needs, as plain values with the defaults of SPEC 2 and 5.

Not their parsing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RADAR, OPTICAL, ISL = 1, 2, 3  # row kinds (SPEC 3)
KIND_NAMES = {RADAR: "radar", OPTICAL: "optical", ISL: "isl"}
KIND_CODES = {name: code for code, name in KIND_NAMES.items()}


@dataclass(frozen=True)
class Prior:
    """One-sigma catalogue uncertainty in RTN: position (m) and velocity (m/s)."""

    pos_m: tuple[float, float, float]
    vel_m_s: tuple[float, float, float]


@dataclass(frozen=True)
class Physics:
    """Everything that changes what an observation or an alert means; part of the catalogue hash."""

    hbr_m: float = 20.0
    red_pc: float = 1e-4
    yellow_pc: float = 1e-7
    watch_km: float | None = None
    screening_km: float = 5.0
    margin_km: float = 5.0
    co_orbital_m_s: float = 25.0
    dut1_s: float = 0.0
    leo: Prior = field(default=Prior((176.0, 695.0, 168.0), (0.6, 0.2, 0.2)))
    deep: Prior = field(default=Prior((500.0, 2000.0, 500.0), (0.3, 0.3, 0.3)))
    leo_min_rev_per_day: float = 11.25
    clock_ahead_max_s: float = 2.0


@dataclass(frozen=True)
class EventTime:
    """Watermarks and lateness (DESIGN 8). ``idle_after_s`` None means off."""

    idle_after_s: float | None = 2.0
    allowed_lateness_s: float = 5.0
    max_lateness_s: dict[str, float] = field(
        default_factory=lambda: {"radar": 0.1, "optical": 30.0, "isl": 10.0}
    )
