"""Every bound of the pipeline: name with unit, reason, one home. Relations asserted at import."""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024 * 1024, 1024 * 1024 * 1024
SECOND_NS = 1_000_000_000

# --- wire -----------------------------------------------------------------------------------
PAYLOAD_BYTES_MAX = 64 * KIB  # one observation; above: discarded, counted
MESSAGE_BYTES_MAX = 2 * PAYLOAD_BYTES_MAX  # with its key and headers; above: the same
SATNO_MAX = 999_999_999  # nine digits, as the catalogues allow
SENSOR_ID_CHARS_MAX = 36

# --- source batches and log -----------------------------------------------------------------
BATCH_MESSAGES_MAX = 4096  # one log record; bounds a frame
BATCH_RAW_BYTES_MAX = 4 * MIB  # bounds the rejects of one record
LINGER_S = 0.050  # longest a message waits for company before its batch is logged
REDUCE_CHUNK_ROWS = 1024  # measured: fits the cache, 4,096 does not
SEGMENT_BYTES = 64 * MIB
LOG_RETENTION_S = 3600.0
LOG_BYTES_MAX = 4 * GIB
LIFE_BITS = 24  # a broker's number for one life of a partition; the log's generation (u4) holds it
REJECT_BYTES_MAX = MESSAGE_BYTES_MAX + 4 * KIB  # packed, with coordinates and reason
REJECT_CHUNK_BYTES = 1 * MIB  # a reject frame on the ring to the dlq-sink: half of it rejects
REJECT_STANDING_BYTES = 128 * KIB  # of that frame: up to where every partition's rejects are sent

# --- rings ----------------------------------------------------------------------------------
ROW_BYTES = 272
FRAME_BYTES_MAX = BATCH_MESSAGES_MAX * ROW_BYTES + 64 * KIB  # rows plus header, parts and counts
RING_FRAMES_MIN = 4  # a ring holds at least this many of the largest frame

# --- event time (nanoseconds) ---------------------------------------------------------------
PANE_NS = 5 * SECOND_NS
WINDOW_PANES = 6  # 30 s window
LOOKAHEAD_PANES = 6  # an encounter is evaluated from so many panes before its own
PANES_PER_ENCOUNTER = WINDOW_PANES + LOOKAHEAD_PANES  # panes j .. j + 11 can use a row of pane j
SCHEDULE_AHEAD_NS = 120 * SECOND_NS
TIME_END_NS = 1 << 62  # the watermark of an END frame: later than any event
SETTLED_NS = 15 * SECOND_NS  # after an outage producers try again, librdkafka's within 10 s +- half
EVALUATE_EVERY_NS = 100_000_000  # dirty encounters are evaluated at most so often
CLOSED_ALERT_KEPT_NS = 3600 * SECOND_NS
SEEN_SET_KEPT_NS = 30 * 86_400 * SECOND_NS

# --- checkpoints ----------------------------------------------------------------------------
SNAPSHOT_EVERY_S = 30.0
SNAPSHOTS_KEPT = 3
# 100 MiB beside commits: written at once and synced as a whole one of them takes 40 ms, so 3 to 8.
SNAPSHOT_SYNC_BYTES = 4 * MIB  # of a copy, then it is synced: no commit waits behind more
SNAPSHOT_BYTES_PER_S = 128 * MIB  # its read transaction pins pages, so not much slower either
LMDB_MAP_BYTES = 8 * GIB  # sparse; the alarm is at 80 %
STATE_BYTES_MAX = 2 * GIB
BROKER_MAP_BYTES = 16 * GIB
BROKER_RETENTION_S = 3600.0
DISK_RESERVE_BYTES = 512 * MIB
DISK_RESUME_RATIO = 1.5

# --- the remote copy of the snapshots -------------------------------------------------------
REMOTE_KEEP = 3
REMOTE_CONNECT_S = 5.0
REMOTE_READ_S = 20.0  # longer than a slow store takes for one call; each socket read starts it anew
REMOTE_ATTEMPTS = 3  # of one call
REMOTE_CALL_S = REMOTE_ATTEMPTS * (REMOTE_READ_S + 1.0) + 2.0**REMOTE_ATTEMPTS  # with its backoff
REMOTE_FAILURES_MAX = 3  # calls in a row that fail open the breaker
REMOTE_BACKOFF_FIRST_S = 0.5
REMOTE_BACKOFF_MAX_S = 10.0
REMOTE_OPEN_FIRST_S = 2.0  # the breaker stays open for so long at first
REMOTE_OPEN_MAX_S = 60.0
REMOTE_STUCK_S = 600.0  # no part went through for so long: the replicator is started anew
REMOTE_LOOK_S = 300.0  # while nothing is uploaded, it is looked whether all is still there
REMOTE_RECOVERY_WAIT_S = 120.0  # a recovery waits so long for a remote that is away
MULTIPART_ABOVE_BYTES = 16 * MIB  # smaller objects go in one put
PART_BYTES = 8 * MIB  # at least 5 MiB, at most 10,000 of them
REMOTE_MANIFEST_BYTES_MAX = 1 * MIB

# --- dlq ------------------------------------------------------------------------------------
DLQ_FILE_BYTES = 64 * MIB
DLQ_RETENTION_S = 30 * 86_400.0
DLQ_PROGRESS_EVERY_S = 1.0
REDRIVE_ATTEMPTS_MAX = 3  # a record refused after so many re-injections needs --force
REDRIVE_CHUNK_MESSAGES = 500  # of sda-reprocess: between two commits of its ledger
REDRIVE_CHUNK_BYTES = 4 * MIB

# --- dedup ----------------------------------------------------------------------------------
DEDUP_SECONDS = 300.0
DEDUP_ENTRIES_MAX = 100_000

# --- supervision ----------------------------------------------------------------------------
BACKOFF_FIRST_S = 0.050
BACKOFF_MAX_S = 2.0
BUDGET_DEATHS = 20
BUDGET_WINDOW_S = 60.0
REWINDS_MAX_PER_MINUTE = 3
HEARTBEAT_ALERT_S = 5.0
HEARTBEAT_KILL_S = 60.0
RECOVERY_KILL_S = 300.0
READY_WITHIN_S = 300.0
DRAIN_WITHIN_S = 30.0
LOCK_WAIT_S = 10.0
DEATHS_BEFORE_PROBE = 2  # in a row at one batch: the next life tries its records one by one

assert PANES_PER_ENCOUNTER * PANE_NS <= SCHEDULE_AHEAD_NS, "a row could outrun the schedule"
assert REJECT_BYTES_MAX <= REJECT_CHUNK_BYTES // 2, "a reject must fit where many of them go"
assert REJECT_CHUNK_BYTES // 2 + REJECT_STANDING_BYTES <= REJECT_CHUNK_BYTES, "and what follows it"
assert STATE_BYTES_MAX / SNAPSHOT_BYTES_PER_S < SNAPSHOT_EVERY_S, "a copy ends before the next"
assert STATE_BYTES_MAX / SNAPSHOT_BYTES_PER_S < DRAIN_WITHIN_S, "a drain may wait for a copy"
assert REMOTE_CONNECT_S <= REMOTE_READ_S, "the bound of a call counts the longer of the two"
assert REMOTE_CALL_S < REMOTE_STUCK_S, "a call that is retried is not stuck"
assert REMOTE_RECOVERY_WAIT_S + REMOTE_CALL_S < RECOVERY_KILL_S, "a recovery may wait for S3"
assert PART_BYTES * 10_000 > LMDB_MAP_BYTES, "S3 takes at most 10,000 parts"
assert HEARTBEAT_ALERT_S < HEARTBEAT_KILL_S <= RECOVERY_KILL_S
