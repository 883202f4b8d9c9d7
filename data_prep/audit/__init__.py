"""Is a folder of recordings what it claims to be? Frames, units, signs, clocks and gaps, measured and not assumed.

RecordingRef ──▶ samples (raw columns) ──▶ motion / curvature / camera / label checks ──▶ findings ──▶ table
"""

from data_prep.audit.tool import AuditOptions, AuditReport, audit_recordings, main

__all__ = ["AuditOptions", "AuditReport", "audit_recordings", "main"]
