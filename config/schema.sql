-- The default table of Alloy: one row for each event, as the shipped config/alloy.ini expects it.
--
-- non_replicated_deduplication_window keeps a retried insert from giving rows twice: ClickHouse
-- remembers the tokens of this many inserts. Keep it above the inserts that all alloyd together make
-- while one of them is down. At full load an alloyd makes 5 to 10 a second for each table, and
-- no more with less to do (alloy_clickhouse_inserts_total). ReplicatedMergeTree has its own window
-- (replicated_deduplication_window) and needs no setting.
--
-- The table is not partitioned: ClickHouse deduplicates each partition by itself, and a retry that
-- falls into another partition gives a second row. If you need partitions (to drop old data by the
-- month, say), partition by a column that the client sets, never by received_at:
--     PARTITION BY toYYYYMM(ts)
-- and use a server version that docs/OPERATIONS.md names as safe for async inserts.
CREATE TABLE IF NOT EXISTS default.events
(
    event_id    String,
    event_type  LowCardinality(String),
    user_id     String,
    ts          DateTime64(3),
    properties  String,
    received_at DateTime64(3) DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (event_type, ts, event_id)
SETTINGS non_replicated_deduplication_window = 10000
