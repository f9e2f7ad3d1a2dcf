"""From a measurement to information: innovation, L = H'R^-1 H, b = H'R^-1 nu, NIS (SPEC 2).

Not decoding, not validation: the caller applies gates to ``nis`` and ``cosine``. Frame TEME,
metres, seconds, radians; angles of arguments in degrees where the name says so. A tangent plane
around the predicted direction u is used, so nothing is singular at the zenith or the pole. All
operations are elementwise over the batch (``columns``): a batch equals its elements alone.

Source: measurement partials after Tapley, Schutz & Born, Statistical Orbit Determination, 3; NIS
after Bar-Shalom, Li & Kirubarajan, Estimation, 5.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sda_pipeline.astro.columns import (
    F8,
    I8,
    along,
    columns,
    dot,
    inverse,
    norm,
    quadratic_form,
    rtn_columns,
)
from sda_pipeline.astro.reference import EARTH_RATE, MU, Site

ZENITH = 1e-9  # horizontal part of u below which azimuth has no meaning (2e-4 arcsec)
DEGREES_AROUND = 360.0


class Reduced(NamedTuple):
    """What measurements say about their objects' deviation from x(t).

    Attributes:
        info: L, lower triangle by rows, f8[m,21] (SI units); vec: b f8[m,6].
        nis: normalized innovation squared f8[m]; dof: its degrees of freedom i8[m].
        cosine: of the angle from predicted to measured direction f8[m]; 1 for ISL.

    A row that cannot be reduced (no trajectory, a covariance that is not positive definite) is NaN:
    test ``nis <= gate``, not ``nis > gate``.
    """

    info: F8
    vec: F8
    nis: F8
    dof: I8
    cosine: F8


class _Row(NamedTuple):
    """One scalar measurement per element: its row of H, innovation and variance (columns)."""

    pos: F8  # d/d position f8[3,m]
    vel: F8 | None  # d/d velocity f8[3,m], None = 0
    nu: F8
    variance: F8


class _Sight(NamedTuple):
    """Line of sight from site to object (columns): SPEC 2 "Site"."""

    u: F8  # unit vector
    rho: F8  # m
    rate: F8  # range rate, m/s
    q: F8  # du/dt, 1/s
    speed2: F8  # |dv|^2


def reduce_radar(
    r: F8, v: F8, site: Site, az_deg: F8, el_deg: F8, range_m: F8, range_rate_m_s: F8,
    sig_az_deg: F8, sig_el_deg: F8, sig_range_m: F8, sig_rate_m_s: F8, time_sigma_s: F8,
    prior_sigma: F8, angle_floor_rad: F8,
) -> Reduced:  # fmt: skip
    """Reduce radar measurements; every argument f8[m] but r, v f8[m,3] and prior_sigma f8[m,6].

    Args:
        r, v: x(t) in TEME, m, m/s. site: at the same times.
        az_deg, el_deg: topocentric, azimuth from north through east. range_rate_m_s: NaN = absent.
        sig_az_deg: of azimuth itself, not floored: the floor applies after cos(el).
        sig_el_deg, sig_range_m, sig_rate_m_s: floored by the caller; sig_rate may be NaN if absent.
        time_sigma_s: one sigma of the time tag. prior_sigma: RTN, m and m/s.
        angle_floor_rad: floor of the cross-elevation sigma.
    """
    with np.errstate(all="ignore"):
        r_, v_ = columns(r), columns(v)
        sight = _sight(r_, v_, site)
        enu = np.stack([columns(site.east), columns(site.north), columns(site.up)])
        az, el = np.radians(az_deg), np.radians(el_deg)
        cos_el = np.cos(el)
        m = np.stack([cos_el * np.sin(az), cos_el * np.cos(az), np.sin(el)])  # in E, N, U
        local = along(enu, sight.u)
        cosine = dot(m, local)
        azimuthal, elevating = _tangent(local)
        spin = sight.q.copy()  # q' = q - w x u: the direction's rate as the site sees it
        spin[0] += EARTH_RATE * sight.u[1]
        spin[1] -= EARTH_RATE * sight.u[0]
        sig_a = np.maximum(np.radians(sig_az_deg) * cos_el, angle_floor_rad)
        sig_b = np.radians(sig_el_deg)
        a, b = _compose(enu, azimuthal), _compose(enu, elevating)
        axes = rtn_columns(r_, v_)
        # An absent range rate is a row of zeros with innovation 0: it adds nothing anywhere.
        has = ~np.isnan(range_rate_m_s)
        acceleration = (sight.speed2 - sight.rate * sight.rate) / sight.rho
        ts = time_sigma_s
        rows = [
            _Row(
                a / sight.rho, None, dot(azimuthal, m) / cosine, _variance(sig_a, dot(a, spin), ts)
            ),
            _Row(
                b / sight.rho, None, dot(elevating, m) / cosine, _variance(sig_b, dot(b, spin), ts)
            ),
            _Row(sight.u, None, range_m - sight.rho, _variance(sig_range_m, sight.rate, ts)),
            _Row(
                np.where(has, sight.q, 0.0),
                np.where(has, sight.u, 0.0),
                np.where(has, range_rate_m_s - sight.rate, 0.0),
                np.where(has, _variance(sig_rate_m_s, acceleration, ts), 1.0),
            ),
        ]
        return _reduce(rows, axes, prior_sigma, 3 + has.astype(np.int64), cosine)


def reduce_optical(
    r: F8, v: F8, site: Site, ra_deg: F8, dec_deg: F8, sig_ra_deg: F8, sig_dec_deg: F8,
    time_sigma_s: F8, to_teme: F8, prior_sigma: F8,
) -> Reduced:  # fmt: skip
    """Reduce optical measurements; every argument f8[m] but r, v f8[m,3] and as below.

    Args:
        r, v: x(t) in TEME, m, m/s. site: at the same times.
        ra_deg, dec_deg: J2000. sig_ra_deg: on the sky (times cos dec already). Both sigmas floored.
        time_sigma_s: one sigma of the time tag. to_teme: J2000 to TEME f8[m,3,3].
        prior_sigma: RTN, m and m/s, f8[m,6].
    """
    with np.errstate(all="ignore"):
        r_, v_ = columns(r), columns(v)
        sight = _sight(r_, v_, site)
        u = sight.u
        turn = np.ascontiguousarray(to_teme.transpose(1, 2, 0))
        ra, dec = np.radians(ra_deg), np.radians(dec_deg)
        sin_ra, cos_ra, sin_dec, cos_dec = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
        zero = np.zeros_like(ra)
        m = along(turn, np.stack([cos_dec * cos_ra, cos_dec * sin_ra, sin_dec]))
        a = along(turn, np.stack([-sin_ra, cos_ra, zero]))
        b = along(turn, np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec]))
        cosine = dot(m, u)
        axes, rows = rtn_columns(r_, v_), []
        for axis, sigma_deg in ((a, sig_ra_deg), (b, sig_dec_deg)):
            g = axis - dot(axis, u) * u
            variance = _variance(np.radians(sigma_deg), dot(g, sight.q), time_sigma_s)
            rows.append(_Row(g / sight.rho, None, dot(g, m) / cosine, variance))
        return _reduce(rows, axes, prior_sigma, np.full(len(ra), 2, np.int64), cosine)


def reduce_isl(r: F8, v: F8, x: F8, cov: F8, time_sigma_s: F8, prior_sigma: F8) -> Reduced:
    """Reduce states measured by inter-satellite link.

    Args:
        r, v: x(t) f8[m,3] in TEME, m, m/s. x: measured state f8[m,6] in TEME, m, m/s.
        cov: its covariance f8[m,6,6] in TEME (lower triangle read). time_sigma_s: f8[m].
        prior_sigma: RTN, m and m/s, f8[m,6].
    """
    with np.errstate(all="ignore"):
        r_, v_ = columns(r), columns(v)
        nu = columns(x) - np.concatenate([r_, v_])
        distance = norm(r_)
        slip = np.concatenate([v_, -MU * r_ / (distance * distance * distance)]) * time_sigma_s
        noise = [[cov[:, i, j] + slip[i] * slip[j] for j in range(i + 1)] for i in range(6)]
        info = inverse(noise)
        axes, sigma = rtn_columns(r_, v_), columns(prior_sigma)
        total: list[list[F8]] = []
        for i in range(6):
            half, c = divmod(i, 3)
            row = list(noise[i])
            for j in range(3 * half, i + 1):
                scaled = axes[:, c] * sigma[3 * half : 3 * half + 3]
                row[j] = row[j] + dot(scaled, axes[:, j % 3] * sigma[3 * half : 3 * half + 3])
            total.append(row)
        vec = np.zeros_like(nu)
        for i in range(6):
            for j in range(6):
                vec[i] += (info[i][j] if j <= i else info[j][i]) * nu[j]
        nis = quadratic_form(total, list(nu))
        packed = np.stack([entry for row in info for entry in row])
    dof, cosine = np.full(len(x), 6, np.int64), np.ones(len(x))
    return Reduced(packed.T, vec.T, nis, dof, cosine)


def predict_radar(r: F8, v: F8, site: Site) -> tuple[F8, F8, F8, F8]:
    """Azimuth [0, 360) and elevation (deg), range (m), range rate (m/s) of states f8[m,3]."""
    sight = _sight(columns(r), columns(v), site)
    e, n = dot(columns(site.east), sight.u), dot(columns(site.north), sight.u)
    k = dot(columns(site.up), sight.u)
    az = np.degrees(np.arctan2(e, n)) % DEGREES_AROUND
    el = np.degrees(np.arctan2(k, np.sqrt(e * e + n * n)))
    return az, el, sight.rho, sight.rate


def predict_optical(r: F8, v: F8, site: Site, to_teme: F8) -> tuple[F8, F8]:
    """J2000 right ascension [0, 360) and declination (deg) of states f8[m,3]; to_teme f8[m,3,3]."""
    sight = _sight(columns(r), columns(v), site)
    x, y, z = along(np.ascontiguousarray(to_teme.transpose(2, 1, 0)), sight.u)
    ra = np.degrees(np.arctan2(y, x)) % DEGREES_AROUND
    return ra, np.degrees(np.arctan2(z, np.sqrt(x * x + y * y)))


def _sight(r: F8, v: F8, site: Site) -> _Sight:
    d, dv = r - columns(site.p), v - columns(site.v)
    rho = norm(d)
    u = d / rho
    rate = dot(u, dv)
    return _Sight(u, rho, rate, (dv - rate * u) / rho, dot(dv, dv))


def _tangent(local: F8) -> tuple[F8, F8]:
    """Unit vectors of growing azimuth and of growing elevation at u; all in E, N, U, f8[3,m]."""
    e, n, k = local
    h = np.sqrt(e * e + n * n)
    zenith = h < ZENITH
    safe = np.where(zenith, 1.0, h)
    zero, one = np.zeros_like(h), np.ones_like(h)
    azimuthal = np.stack([n / safe, -e / safe, zero])
    elevating = np.stack([-k * e / safe, -k * n / safe, h])
    return (
        np.where(zenith, np.stack([one, zero, zero]), azimuthal),
        np.where(zenith, np.stack([zero, one, zero]), elevating),
    )


def _compose(axes: F8, parts: F8) -> F8:
    """The vectors f8[3,m] whose components along the axes f8[3 axes,3,m] are ``parts`` f8[3,m]."""
    total: F8 = axes[0] * parts[0] + axes[1] * parts[1] + axes[2] * parts[2]
    return total


def _variance(sigma: F8, rate: F8, time_sigma_s: F8) -> F8:
    """Variance of a measurement, inflated by what its time tag's error moves it."""
    slip = rate * time_sigma_s
    return sigma * sigma + slip * slip


def _reduce(rows: Sequence[_Row], axes: F8, prior_sigma: F8, dof: I8, cosine: F8) -> Reduced:
    """Information, vector and NIS of independent scalar measurements (R diagonal).

    ``axes``: RTN of the predicted state, in which ``prior_sigma`` is diagonal.
    """
    info, vec = np.zeros((21, len(dof))), np.zeros((6, len(dof)))
    sigma = columns(prior_sigma)
    reach: list[tuple[F8, F8 | None]] = []  # prior one-sigma axes seen along each row
    innovation: list[list[F8]] = []  # H P H' + R, lower triangle
    for i, row in enumerate(rows):
        weight = 1.0 / row.variance
        _add_information(info, vec, row, weight)
        pos = along(axes, row.pos) * sigma[:3]
        vel = None if row.vel is None else along(axes, row.vel) * sigma[3:]
        reach.append((pos, vel))
        line = [dot(pos, other) for other, _ in reach]
        line[i] = line[i] + row.variance
        if vel is not None:
            for j, (_, other_vel) in enumerate(reach):
                if other_vel is not None:
                    line[j] = line[j] + dot(vel, other_vel)
        innovation.append(line)
    nis = quadratic_form(innovation, [row.nu for row in rows])
    return Reduced(info.T, vec.T, nis, dof, cosine)


def _add_information(info: F8, vec: F8, row: _Row, weight: F8) -> None:
    """Add h w h' (lower triangle by rows) and h w nu of one scalar measurement, in place."""
    full = [*row.pos] if row.vel is None else [*row.pos, *row.vel]
    for i, h in enumerate(full):
        weighted = h * weight
        vec[i] += weighted * row.nu
        for j in range(i + 1):
            info[i * (i + 1) // 2 + j] += weighted * full[j]
