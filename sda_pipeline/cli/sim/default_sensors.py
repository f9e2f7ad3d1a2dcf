"""The sensors `sda-sim catalogue` writes when the topology's file does not exist. Fictitious.

Places are real regions, noise is that of good instruments; neither is any real sensor's.
"""

from __future__ import annotations

from sda_pipeline.sensors import SensorRegistry, parse_sensors
from sda_pipeline.topology_yaml import load_mapping

# lat, lon (deg), height (m); azimuth and elevation (deg), range (km), range rate (km/s) one sigma.
_RADARS = {
    "RAD-SVALBARD": (78.2, 15.6, 400.0, 0.010, 0.010, 0.010, 0.00010),
    "RAD-LAPLAND": (67.9, 21.1, 420.0, 0.012, 0.012, 0.015, 0.00015),
    "RAD-ALPS": (47.6, 11.1, 700.0, 0.010, 0.010, 0.010, 0.00010),
    "RAD-NORTH-SEA": (54.4, -0.7, 250.0, 0.015, 0.015, 0.020, 0.00020),
    "RAD-GREENLAND": (76.6, -68.3, 370.0, 0.015, 0.015, 0.020, 0.00020),
    "RAD-MAINE": (44.8, -67.8, 100.0, 0.012, 0.012, 0.015, 0.00015),
    "RAD-TEXAS": (32.0, -102.0, 900.0, 0.010, 0.010, 0.010, 0.00010),
    "RAD-ALASKA": (64.3, -149.2, 200.0, 0.012, 0.012, 0.015, 0.00015),
    "RAD-PACIFIC": (9.4, 167.5, 10.0, 0.010, 0.010, 0.010, 0.00010),
    "RAD-EXMOUTH": (-21.8, 114.2, 60.0, 0.012, 0.012, 0.015, 0.00015),
    "RAD-PATAGONIA": (-51.6, -69.2, 50.0, 0.015, 0.015, 0.020, 0.00020),
    "RAD-CAPE": (-34.4, 19.2, 90.0, 0.015, 0.015, 0.020, 0.00020),
}
# lat, lon, height; right ascension on the sky and declination (deg) one sigma.
_OPTICAL = {
    "OPT-TENERIFE": (28.3, -16.5, 2390.0, 0.0010, 0.0010),
    "OPT-ANDALUSIA": (37.2, -2.5, 2160.0, 0.0012, 0.0012),
    "OPT-MAUI": (20.7, -156.3, 3050.0, 0.0010, 0.0010),
    "OPT-ATACAMA": (-24.6, -70.4, 2630.0, 0.0010, 0.0010),
    "OPT-KAROO": (-32.4, 20.8, 1760.0, 0.0012, 0.0012),
    "OPT-ARIZONA": (32.4, -110.8, 2790.0, 0.0012, 0.0012),
}
# Position (km) and velocity (km/s) per axis, one sigma.
_LINKS = {
    "ISL-A1": (0.030, 0.00010), "ISL-A2": (0.030, 0.00010), "ISL-B1": (0.050, 0.00020),
    "ISL-B2": (0.050, 0.00020),
}  # fmt: skip
_HEADER = """\
# Sensors: kind and place (deg, m), one-sigma noise in wire units (deg, km, km/s), clock (s).
# Written by `sda-sim catalogue` because this file did not exist; it is never overwritten.
sensors:
"""


def default_sensors_text() -> str:
    """The whole file, YAML."""
    lines = [_HEADER]
    for name, (lat, lon, alt, az, el, distance, rate) in _RADARS.items():
        lines.append(
            f"  {name}: {{kind: radar, lat: {lat}, lon: {lon}, alt_m: {alt}, azimuth_unc: {az}, "
            f"elevation_unc: {el}, range_unc: {distance}, range_rate_unc: {rate:.5f}, "
            f"time_sigma_s: 0.0001}}\n"
        )
    for name, (lat, lon, alt, ra, dec) in _OPTICAL.items():
        lines.append(
            f"  {name}: {{kind: optical, lat: {lat}, lon: {lon}, alt_m: {alt}, ra_unc: {ra}, "
            f"declination_unc: {dec}, time_sigma_s: 0.001}}\n"
        )
    for name, (pos, vel) in _LINKS.items():
        lines.append(
            f"  {name}: {{kind: isl, pos_unc: {pos}, vel_unc: {vel:.5f}, time_sigma_s: 0.0001}}\n"
        )
    return "".join(lines)


def default_registry() -> SensorRegistry:
    """The same sensors, parsed: for tests and programs without a sensors file."""
    return parse_sensors(load_mapping(default_sensors_text().encode(), "default sensors"))
