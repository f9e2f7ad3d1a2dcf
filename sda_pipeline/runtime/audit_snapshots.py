"""Audit of the correlator's snapshots: each is whole, and what its manifest says. Not whether one
is to be restored (``state/recovery.py``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sda_pipeline.errors import SdaError
from sda_pipeline.limits import MIB, SNAPSHOTS_KEPT
from sda_pipeline.runtime.audit_report import AuditReport
from sda_pipeline.runtime.audit_store import StoreAudit, positions_in
from sda_pipeline.state.manifest import Manifest, offsets_of, watermarks_of
from sda_pipeline.state.snapshot import data_path, every_manifest, manifest_path
from sda_pipeline.state.store import CorrelatorStore


def check_snapshots(directory: Path, store: Path, report: AuditReport) -> list[Manifest]:
    """Check those that are retained, also against the store in the directory ``store``; returns the
    readable manifests, newest first.
    """
    good: list[Manifest] = []
    with report.reading():
        for found in every_manifest(directory):
            if not isinstance(found, Manifest):
                report.fault(f"snapshot {found.path.name}: {found.why}")
                continue
            why = _fault_of(directory, found)
            if not manifest_path(directory, found.sequence).exists():
                continue  # pruned meanwhile
            good.append(found)
            if why:
                report.fault(f"snapshot {data_path(directory, found.sequence).name}: {why}")
    if good:  # read again: these may be newer than the first reading
        now = StoreAudit(store, report)
        for manifest in good:
            ids = {manifest.epoch_id, now.epoch_id} - {0}  # 0: an older release wrote it
            if now.epoch == manifest.epoch and len(ids) > 1:
                name = data_path(directory, manifest.sequence).name
                fault = f"its epoch {now.epoch} has the id {now.epoch_id:#x}, in {name} another"
                report.fault(f"correlator meta: {fault}")
            for source, position in manifest.positions.items():
                here = now.position(source).position
                if position > here and now.epoch == manifest.epoch:
                    name = data_path(directory, manifest.sequence).name
                    at = f"{source} stands at {position}, in the store at {here}"
                    report.fault(f"snapshot {name}: {at}")
    return good


def oldest_kept(manifests: list[Manifest], source: str) -> int:
    """From which position on the retained snapshots need a source's log; 0 without a snapshot."""
    kept = manifests[:SNAPSHOTS_KEPT]
    return min((manifest.positions.get(source, 0) for manifest in kept), default=0)


def _fault_of(directory: Path, manifest: Manifest) -> str:
    """Why a snapshot is not what its manifest says; "" when it is."""
    path, digest, size = data_path(directory, manifest.sequence), hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(MIB):
                digest.update(chunk)
                size += len(chunk)
        if (size, digest.hexdigest()) != (manifest.size_bytes, manifest.sha256):
            return "its size and SHA-256 are not those of its manifest"
        copy = CorrelatorStore(path, readonly=True, single_file=True)
    except OSError as error:
        return error.strerror or str(error)
    except SdaError as error:
        return error.why
    try:
        contents = copy.contents()
        found = positions_in(contents)
    except SdaError as error:
        return error.why
    finally:
        copy.close()
    decoded = {s: {"watermark": p.watermark, "parts": p.parts} for s, p in found.items()}
    facts = manifest.watermarks, manifest.offsets
    if any(facts) and facts != (watermarks_of(decoded), offsets_of(decoded)):
        return f"its manifest says {facts} of watermarks and offsets, and it holds others"
    says = (
        manifest.epoch, manifest.epoch_id, manifest.catalogue, manifest.closed_to,
        manifest.positions, manifest.log_ids,
    )  # fmt: skip
    meta = contents.meta
    holds = (
        meta.epoch, meta.epoch_id, f"{meta.catalogue:016x}", meta.closed_to,
        {source: position.position for source, position in found.items()},
        {source: position.log_id for source, position in found.items()},
    )  # fmt: skip
    return "" if says == holds else f"its manifest says {says}, it holds {holds}"
