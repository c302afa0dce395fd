# SPDX-License-Identifier: Apache-2.0
"""
The small edits that tests/mutate/run makes, and the unit tests that must notice them.

old must stand in the folder's files exactly once: when the code moves on, the run names what is
stale. A mutant that no test can notice stays in the list with the reason why that is no loss
(argued).
"""

from typing import NamedTuple, Tuple


class Mutant(NamedTuple):
    name: str
    folder: str
    old: str
    new: str
    breaks: str  # what goes wrong in life
    tests: Tuple[str, ...]  # tests/unit/*/test_<name>.c
    argued: str = ""  # why it may live


BASE = [
    Mutant("text_hex_digit", "include/alloy",
           "c >= 'a' && c <= 'f' ?", "c >= 'a' && c <= 'g' ?",
           "%0g in redis.url is taken for a byte", ("text",)),
    Mutant("text_utf8_surrogates", "src/base",
           "(byte[0] == 0xed && byte[1] > 0x9f) ||", "(byte[0] == 0xed && byte[1] > 0xbf) ||",
           "surrogates are taken for UTF-8", ("text",)),
    Mutant("text_escape_control", "src/base",
           "if (c < 0x20 || c == 0x7f) {", "if (c < 0x1f || c == 0x7f) {",
           "a control byte goes into logs and dead letters as it is", ("text",)),
    Mutant("backoff_overflow", "src/base",
           "if (shift <= SHIFT_MAX && min_ms <= max_ms >> shift)", "if (shift <= SHIFT_MAX)",
           "after a long outage the wait overflows", ("backoff",)),
    Mutant("backoff_half", "src/base",
           "random % (wait_ms / 2 + 1)", "random % (wait_ms + 1)",
           "a retry can come at once, all at the same time", ("backoff",)),
    Mutant("health_not_blocking", "src/base",
           "ready = ready && !health->conditions[i].blocking;", "ready = ready && true;",
           "/readyz says yes whatever is wrong", ("health",)),
    Mutant("log_limit_held", "src/base",
           "*suppressed = atomic_exchange_explicit(&limit->held, 0, memory_order_relaxed);",
           "*suppressed = atomic_load_explicit(&limit->held, memory_order_relaxed);",
           "a line stands for lines that were told of before", ("log",)),
    Mutant("clock_leap_day", "src/base",
           "day_of_era / 36524 -", "day_of_era / 36525 -",
           "times in logs are a day off in some years", ("clock",)),
]

CONFIG = [
    Mutant("config_size_unit", "src/config",
           '{"MiB", 1ull << 20}', '{"MiB", 1000000}',
           "sizes are 5 % smaller than written", ("config",)),
    Mutant("config_range_max", "src/config",
           "if (*value < key->min || *value > key->max) {", "if (*value < key->min) {",
           "values beyond their bounds pass --check", ("config",)),
    Mutant("config_overflow", "src/config",
           """        if (__builtin_mul_overflow(*value, unit->factor, value))
            *value = UINT64_MAX;
        return true;""",
           """        *value *= unit->factor;
        return true;""",
           "17179869185GiB is taken for 1GiB", ("config_value",)),
    Mutant("config_path_twice", "src/config",
           "if (config_check_same_text(loader->config->streams[i].path, stream->path))",
           "if (false)",
           "two streams with one path pass: the second gets nothing", ("config",)),
    Mutant("config_id_twice", "src/config",
           "if (config_check_same_text(stream->id_fields[i], field))", "if (false)",
           "id = a, a passes, and no event ever has two", ("config",)),
    Mutant("config_two_passwords", "src/config",
           "if (has_password && has_file)", "if (false)",
           "of two passwords one is taken in silence", ("config",)),
    Mutant("host_port_zero", "src/config",
           "return value > 0;", "return true;",
           "port 0 and an empty port pass", ("config",)),
    Mutant("redis_url_nul", "src/config",
           "if (high < 0 || low < 0 || (high | low) == 0)", "if (high < 0 || low < 0)",
           "%00 cuts a password off", ("redis_url",)),
    Mutant("redis_url_path_len", "src/config",
           "if (len > PATH_MAX_LEN)", "if (len > PATH_MAX_LEN + 1)",
           "a path that hiredis does not terminate passes", ("redis_url",)),
    Mutant("ini_bom", "src/config",
           "if (reader.line == 1 && strncmp(", "if (reader.line == 2 && strncmp(",
           "a file with a byte order mark is refused", ("ini",)),
    Mutant("ini_nul", "src/config",
           "else if (result == LINE_HAS_NUL)", "else if (false)",
           "what stands behind a NUL is lost in silence", ("ini",)),
]

EVENT = [
    Mutant("event_id_escape", "src/event",
           "if (part[i] == ':' || part[i] == '\\\\')", "if (part[i] == ':')",
           "two composite ids become one", ("event_id", "json_scan")),
    Mutant("event_id_key", "src/event",
           """    (void)crypto_shorthash_siphashx24(key->bytes, (const unsigned char *)stream_name,
                                      strlen(stream_name), secret);""",
           """    (void)stream_name;
    (void)crypto_shorthash_siphashx24(key->bytes, (const unsigned char *)"", 0, secret);""",
           "an id of one stream is a duplicate in another", ("event_id",)),
    Mutant("json_depth", "src/event",
           "if (unlikely(depth == JSON_SCAN_DEPTH_MAX))", "if (unlikely(depth > JSON_SCAN_DEPTH_MAX))",
           "level 65 is checked with the bits of level 1", ("json_scan",)),
    Mutant("json_id_twice", "src/event",
           "if (value != NULL && *value != NULL)", "if (false)",
           "of two ids in an event ClickHouse may take the other one", ("json_scan",)),
    Mutant("json_empty_id", "src/event",
           "if (part->len == 0)", "if (false)",
           "all events with an empty id are one", ("json_scan",)),
    Mutant("json_minus_zero", "src/event",
           'if (part->len == 2 && memcmp(value, "-0", 2) == 0) {', "if (false) {",
           "0 and -0, the same number, are two ids", ("json_scan",)),
    Mutant("json_no_space", "src/event",
           """    if (at == *text) {
        (void)json_fail(scan, at, "White space was expected between events.");
        return JSON_SCAN_INVALID_JSON;
    }
""", "",
           "{}{} passes, and the rows of an insert run together", ("json_scan",)),
]

JOURNAL = [
    Mutant("ack_disk_sync", "src/admit",
           """            if (admission->requests[r].ack == ADMISSION_ACK_DISK)
                admission_give_up(""",
           """                admission_give_up(""",
           "a failed sync for ack=disk refuses every request of the turn", ("durability",)),
    Mutant("stamp_limit", "src/journal",
           "if ((insert_id & ~INSERT_ID_ASYNC) >=", "if ((insert_id & ~INSERT_ID_ASYNC) >",
           "an id beyond the promise is used, and again by the next life", ("journal",)),
    Mutant("stamp_not_synced", "src/journal",
           "    return journal_sync_s", "    if (insert_id != 0)\n        return 0;\n    return journal_sync_s",
           "after a loss of power an insert is sent under another token", ("journal",)),
    Mutant("sync_always_ignored", "src/journal",
           "    err = journal_sync_writer(writer);", "    err = 0;",
           "sync = always answers 202 before the disk has the event", ("journal", "durability")),
    Mutant("sync_failure_forgotten", "src/journal",
           '        journal_fail(journal, "segment", segment->number, err);', "        (void)journal;",
           "after a failed sync the next one says all is well", ("journal", "durability")),
    Mutant("journal_bytes", "src/journal",
           "if (journal->bytes_total + bytes > journal->max_bytes)", "if (false)",
           "the journal grows beyond journal.max_bytes", ("journal",)),
    Mutant("segment_checksum", "src/journal",
           "    if (record->checksum !=", "    if (false && record->checksum !=",
           "a torn record is believed", ("segment", "recover")),
    Mutant("segment_place", "src/journal",
           "record->lsn != ((uint64_t)segment->number << 32 | offset))", "record->lsn == 0)",
           "a record of the file's earlier use is believed", ("segment", "recover")),
    Mutant("segment_state_bits", "src/journal",
           "(unsigned)(word ^ states[i])) <= 3)", "(unsigned)(word ^ states[i])) <= 4)",
           "a state with four flipped bits is taken for another one", ("segment",)),
    Mutant("recover_stream_unknown", "src/journal",
           "           record->stream != STREAM_UNKNOWN;", "           true;",
           "events of a stream that has gone are replayed into another", ("recover",)),
    Mutant("recover_last_segment", "src/journal",
           "    if (recovery->live == 0) {", "    if (recovery->live <= 1) {",
           "a segment with one pending event is removed at start", ("recover",)),
    Mutant("recover_bias", "src/journal",
           "recover_put_segment(segment, SEGMENT_BIAS - recovery->live - 1);",
           "recover_put_segment(segment, SEGMENT_BIAS - recovery->live);",
           "a segment goes while its last records are still to be replayed", ("recover", "replay")),
    Mutant("waiter_left", "src/journal",
           "    waiter->left = events + 1;", "    waiter->left = events;",
           "a request is answered before all of its events are in", ("waiter",)),
    Mutant("waiter_dead_joined", "src/journal",
           "if (entry && (entry->state == ENTRY_ELSEWHERE || entry->state == ENTRY_DEAD))",
           "if (entry && entry->state == ENTRY_ELSEWHERE)",
           "a corrected event is told that it was rejected", ("waiter",)),
    Mutant("waiter_room", "src/journal",
           "room = table->waiters < table->waiters_max &&", "room =",
           "server.max_waiting bounds nothing", ("waiter",)),
    Mutant("record_state_elsewhere", "src/journal",
           "journal->earlier_read = journal->dir.file_count == 0;", "journal->earlier_read = true;",
           "ack=clickhouse says 200 for an event that a segment not read yet may hold",
           ("journal", "recover")),
]

ADMIT = [
    Mutant("ring_pass_on", "src/admit",
           """    if (n == max && atomic_load_explicit(&ring->waiters, memory_order_relaxed) > 0 &&
        !ring_is_empty(ring))
        ring_wake_sleepers(ring, 1);
""", "",
           "a worker sleeps while events lie in the ring", ("ring",)),
    Mutant("ring_wake", "src/admit",
           "    ring_wake_one_if_asleep(ring);\n}", "}",
           "nobody takes an event until the next time-out", ("ring",)),
    Mutant("ring_credit", "src/admit",
           "if ((used & CLOSED) || n > ring->capacity - used)",
           "if ((used & CLOSED) || n > ring->capacity - used + 1)",
           "one event more than ring.capacity is taken", ("ring",)),
    Mutant("ring_closed", "src/admit",
           "if ((used & CLOSED) || n >", "if (n >",
           "events are accepted while the process drains", ("ring",)),
    Mutant("l1_grace_first", "src/admit",
           """    l1_rcu_enter();
    synchronize_rcu();
    for (struct generation *generation = dying;""",
           """    l1_rcu_enter();
    for (struct generation *generation = dying;""",
           "an id that is added meanwhile stays in a table whose slab has gone", ("l1",)),
    Mutant("l1_grace_second", "src/admit",
           """        l1_unlink_nodes(l1, generation);
    synchronize_rcu();
    l1_rcu_leave();""",
           """        l1_unlink_nodes(l1, generation);
    l1_rcu_leave();""",
           "a reader looks at a slab that has been given back", ("l1",)),
    Mutant("l1_remove_in_file", "src/admit",
           "l1_entry_set(l1_entry_of(link), (struct hash128){0}, 0);", ";",
           "a dead-lettered id is known again after a restart", ("l1", "l1_files")),
    Mutant("l1_disown_other", "src/admit",
           """        atomic_compare_exchange_strong_explicit(&entry->lsn, &lsn, 0, memory_order_relaxed,
                                                memory_order_relaxed);""",
           """        atomic_store_explicit(&entry->lsn, 0, memory_order_relaxed);
    (void)lsn;""",
           "an id is taken from the record that owns it", ("l1",)),
    Mutant("l1_files_boot", "src/admit",
           "(state->clean == 1 || same_boot);", "true;",
           "after a loss of power ids are known whose events are lost", ("l1_files",)),
    Mutant("l1_files_unsaved", "src/admit",
           "return state->unsaved == 0 && state->recovering == 0 &&", "return state->recovering == 0 &&",
           "ids that had no file are missing, and nobody reads the journal for them", ("l1_files",)),
    Mutant("admission_drop_events", "src/admit",
           "    admission->event_count = admission->requests[--admission->request_count].first;",
           "    --admission->request_count;",
           "events of a request that was given up stay in the turn", ("admission_turn",)),
    Mutant("admission_publish_losers", "src/admit",
           "        event->known = true;\n        lost++;", "        lost++;",
           "ack=clickhouse waits for a record that was given up", ("admission_turn",)),
    Mutant("admission_cancel", "src/admit",
           "        ring_cancel(parts->ring, n);\n        return err == -ENOSPC",
           "        return err == -ENOSPC",
           "a full journal uses up the ring's room for good", ("admission",)),
]

HTTP = [
    Mutant("http_two_framings", "src/http",
           '''    if (request->has_length) {
        request->problem = "Both Content-Length and Transfer-Encoding are given.";
        return HTTP_BAD;
    }
''', "",
           "a proxy before alloyd and alloyd see two requests where there is one", ("http_parse",)),
    Mutant("http_lengths_differ", "src/http",
           "    if (request->has_length && request->content_length != first) {", "    if (false) {",
           "of two lengths the last counts: request smuggling", ("http_parse",)),
    Mutant("http_host_twice", "src/http",
           "if (head->host_count > 1 ||", "if (",
           "two Hosts pass", ("http_parse",)),
    Mutant("http_headers_max", "src/http",
           "if (head->header_count > HEADER_COUNT_MAX) {", "if (false) {",
           "a request may have any number of headers", ("http_parse",)),
    Mutant("http_expect_1_0", "src/http",
           "        request->expect_continue = false;", "        request->expect_continue = true;",
           "an HTTP/1.0 client gets a 100 that it does not know", ("http_parse",)),
    Mutant("buffer_budget", "src/http",
           """        buffer_budget_give(budget, bytes);
        return false;
    }
    return true;""",
           """        return false;
    }
    return true;""",
           "each refusal uses up server.max_buffers", ("buffer",)),
    Mutant("buffer_pool_counts", "src/http",
           "if (buffer->size == pool->block_bytes && pool->cached_count < pool->cached_max) {",
           "if (buffer->size == pool->block_bytes) {",
           "blocks of a rush are never given back", ("buffer",)),
    Mutant("route_prefix", "src/http",
           "if (own.len == path.len && memcmp(own.data, path.data, path.len) == 0)",
           "if (own.len >= path.len && memcmp(own.data, path.data, path.len) == 0)",
           "/v1/ord posts to /v1/orders", ("route",)),
    Mutant("ack_twice", "src/http",
           '''        if (named)
            return "ack is given twice.";
''', "",
           "of two acks one is taken in silence", ("ack",)),
    Mutant("ack_wait_zero", "src/http",
           "return seconds > 0 ? seconds : 1;", "return seconds;",
           "Prefer: wait=0 is no preference, and answers before the insert", ("ack",)),
    Mutant("ack_query_wins", "src/http",
           """        if (ack_slice_is(value, "none"))
            ack->kind = ADMISSION_ACK_NONE;
        else if""",
           """        if (ack_slice_is(value, "none"))
            continue;
        else if""",
           "ack=none does not overrule Prefer: wait", ("ack",)),
    Mutant("reply_head", "src/http",
           "    if (!reply->head_only)\n", "",
           "the body of an answer to HEAD is read as the next answer", ("reply",)),
    Mutant("reply_escaped", "src/http",
           "        reply_put_escaped(&text, at->message);", "        reply_put(&text, at->message, strlen(at->message));",
           "a message with a quote makes a 422 that is no JSON", ("reply",)),
]

LETTERS = [
    Mutant("letters_trailing", "src/letters",
           "return cursor.at == cursor.end && letter->event.len > 0", "return letter->event.len > 0",
           "half of two lines that ran together is posted as an event", ("letters",)),
    Mutant("letters_code", "src/letters",
           "if (!letters_read_digits(value.data, value.len, 10, &number) || number > INT_MAX)",
           "if (!letters_read_digits(value.data, value.len, 10, &number))",
           "a code beyond int becomes another one", ("letters",)),
    Mutant("letters_unfinished", "src/letters",
           "if (len <= 0 || text[len - 1] != '\\n') {", "if (len <= 0) {",
           "a line that was never finished is posted", ("letters",)),
    Mutant("letters_bracket_in_string", "src/letters",
           """        if (byte == '"') {
            if (!letters_take_string(cursor, &inside))
                return false;
            continue;
        }
        cursor->at++;""",
           """        (void)inside;
        cursor->at++;""",
           "an event with a bracket in a string is cut off", ("letters",)),
    Mutant("dead_letter_line_break", "src/letters",
           "while (stop < end && *stop != '\\n' && *stop != '\\r')", "while (stop < end)",
           "an event over several lines makes several broken letters", ("dead_letter",)),
    Mutant("dead_letter_full", "src/letters",
           "dead_letter->folder_bytes += (uint64_t)st.st_size;", ";",
           "what lies in the folder already does not count against dead_letter.max_bytes",
           ("dead_letter",)),
    Mutant("dead_letter_half_character", "src/letters",
           "while (message.len > 0 && ((unsigned char)message.data[message.len] & 0xc0) == 0x80)",
           "while (false)",
           "a cut message ends in half a character", ("dead_letter",)),
]

CTL = [
    Mutant("ctl_since", "src/ctl",
           "*since_ms = number < now_ms / units[i].ms ? now_ms - number * units[i].ms : 0;",
           "*since_ms = now_ms - number * units[i].ms;",
           "--since 100000d hides every letter", ("ctl",)),
    Mutant("ctl_matches_prefix", "src/ctl",
           "(letter->stream.len != strlen(filter->stream) ||", "(",
           "--stream orders2 shows orders", ("ctl_text",)),
    Mutant("ctl_base_url", "src/ctl",
           "return end > host && end[strspn(end, \"/\")] == '\\0';", "return end > host;",
           "an address with a path posts to nowhere", ("ctl",)),
    Mutant("ctl_one_line_control", "src/ctl",
           """        if (iscntrl((unsigned char)*at))
            *at = ' ';""",
           """        if (*at == '\\t')
            *at = ' ';""",
           "an answer can move the cursor of a terminal", ("ctl",)),
    Mutant("ctl_pretty_escape", "src/ctl",
           "at += *at == '\\\\' && at + 1 < end ? 2 : 1;", "at += 1;",
           "a quote in a string breaks its line", ("ctl_text",)),
    Mutant("ctl_judge_500", "src/ctl",
           "return status == 503 || status == 429 || status == 0 ?", "return status >= 429 || status == 0 ?",
           "a replay tries a 500 for ever", ("ctl_replay",)),
    Mutant("ctl_read_counts", "src/ctl",
           "                  duplicates) == 2;", "                  duplicates) >= 1;",
           "half an answer counts as taken", ("ctl_text",)),
    Mutant("ctl_journal_insert_id", "src/ctl",
           "if (state == RECORD_LIVE && !record_insert_id_valid(record))", "if (false)",
           "verify does not see a broken insert id", ("ctl_journal",)),
    Mutant("ctl_journal_cut_off", "src/ctl",
           "    if (segment->limit < size)\n", "    if (false)\n",
           "verify does not see a file that was cut off", ("ctl_journal",)),
    Mutant("ctl_journal_oldest", "src/ctl",
           "record->received_ms < sum->oldest_live_ms)", "record->received_ms > sum->oldest_live_ms)",
           "inspect names the youngest pending event as the oldest", ("ctl_journal",)),
    Mutant("ctl_letters_unreadable", "src/ctl",
           "return showing.unreadable > 0 ? EXIT_FAILURE : status;", "return status;",
           "show says all is well though it could not read a line", ("ctl_letters",)),
    Mutant("ctl_letters_replayed", "src/ctl",
           "if (letters.files[i].state == LETTERS_REPLAYED && !show->all)", "if (false)",
           "show shows what was posted again", ("ctl_letters",)),
]

CLAIMS = [
    Mutant("claims_own", "src/claims",
           "    uint64_t words[2] = {htole64(claims->parts.instance_id), htole64(record->lsn)};",
           "    uint64_t words[2] = {0, htole64(record->lsn)};",
           "two alloyd take each other's claims for their own: doubled rows", ("claims",)),
    Mutant("claims_ttl", "src/claims",
           "(stream->ttl_ms + 999) / 1000)", "stream->ttl_ms / 1000)",
           "Redis forgets an id before its ttl", ("claims",)),
    Mutant("claims_own_record", "src/claims",
           "memcmp(value.data, own, VALUE_LEN) == 0", "memcmp(value.data, own, 8) == 0",
           "every claim of this alloyd is taken for the record's own: doubled rows", ("claims",)),
    Mutant("redis_reason_auth", "src/claims",
           "link->handshake == HANDSHAKE_AUTH", "link->handshake == HANDSHAKE_AUTH + 9",
           "Redis quotes the password, and it stands in the log", ("redis_link", "claims")),
    Mutant("release_early", "src/claims",
           "until_ms <= now_ms)", "until_ms <= now_ms || true)",
           "a dead-lettered record goes while its claim stays: the corrected event is dropped",
           ("flusher", "worker")),
]

WORK = [
    Mutant("worker_duplicates", "src/work",
           "            worker->duplicates[duplicates++] = batch->records[i];\n            continue;\n",
           "            worker->duplicates[duplicates++] = batch->records[i];\n",
           "a duplicate is inserted too", ("worker",)),
    Mutant("worker_hold", "src/work",
           "        if (!worker_must_hold(worker))", "        if (!worker_must_hold(worker) || true)",
           "redis.on_failure = hold inserts without a claim", ("worker",)),
    Mutant("worker_linger", "src/work",
           "    return until_ms > now_ms ? until_ms - now_ms : 0;\n}\n\n/* Finishes",
           "    (void)until_ms;\n    (void)now_ms;\n    return 1;\n}\n\n/* Finishes",
           "a batch that is not full waits for ever", ("worker",)),
]

# Last, as src/insert changes most.
INSERT = [
    Mutant("answer_too_few", "src/insert",
           "answer->written_rows >= rows ?", "true ?",
           "an insert that wrote too few rows counts as done: lost", ("insert_answer",)),
    Mutant("answer_late_exception", "src/insert",
           'if (insert_answer_find(answer->body, "__exception__") != NULL)', "if (false)",
           "an exception after the headers counts as done: lost", ("insert_answer",)),
    Mutant("answer_row", "src/insert",
           "            *row = number - 1;", "            *row = number;",
           "the row behind the bad one is taken for it", ("insert_answer",)),
    Mutant("probe_after_loss", "src/insert",
           """        lane->probed = false;
        if (!lane->probing)
            lane->probe_at_ms = lane->retry_at_ms;""",
           """        if (!lane->probing)
            lane->probe_at_ms = clock_mono_ms() + PROBE_INTERVAL_MS;""",
           "another server behind the same address gets async inserts that it loses",
           ("flusher_after",)),
    Mutant("part_count", "src/insert",
           "    lane->part_count += was_part ? 1 : 2;", "    lane->part_count += 2;",
           "after a bad row the lane sends one insert at a time for ever", ("flusher_after",)),
    Mutant("request_token", "src/insert",
           "insert_deduplication_token=", "insert_deduplication_tokens=",
           "a retry doubles its rows", ("insert_request", "flusher")),
    Mutant("probe_partitions", "src/insert",
           "if ((probe->partitioned || !merge_tree) &&", "if (!merge_tree &&",
           "async inserts into partitioned tables of an old server lose rows", ("flusher_probe",)),
]

MUTANTS = BASE + CONFIG + EVENT + JOURNAL + ADMIT + HTTP + LETTERS + CTL + CLAIMS + WORK + INSERT
