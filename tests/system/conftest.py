# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one Redis and one ClickHouse engine for the whole run, an alloyd for each test."""

import itertools

import pytest

import harness

_tables = itertools.count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for process in getattr(item, "alloy_processes", []):
            report.sections.append((f"log of {process.name}", process.log()[-6000:]))


@pytest.fixture(scope="session")
def shared_clickhouse(tmp_path_factory):
    clickhouse = harness.ClickHouse(tmp_path_factory.mktemp("clickhouse")).start()
    yield clickhouse
    clickhouse.kill()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory):
    redis = harness.Redis(tmp_path_factory.mktemp("redis")).start()
    yield redis
    redis.kill()


@pytest.fixture
def redis(shared_redis):
    """The shared Redis, empty. A test that stops it uses own_redis."""
    shared_redis.command("FLUSHALL")
    return shared_redis


@pytest.fixture
def clickhouse(shared_clickhouse):
    """The shared engine. A test that stops it uses own_clickhouse."""
    return shared_clickhouse


@pytest.fixture
def table(clickhouse):
    """An empty table of the shipped schema, of this test alone."""
    return clickhouse.create_events(f"default.events_{next(_tables)}")


@pytest.fixture
def own_redis(tmp_path):
    redis = harness.Redis(tmp_path).start()
    yield redis
    redis.kill()


@pytest.fixture
def own_clickhouse(tmp_path):
    clickhouse = harness.ClickHouse(tmp_path).start()
    clickhouse.create_events("default.events")
    yield clickhouse
    clickhouse.kill()


@pytest.fixture
def make_alloyd(request, tmp_path):
    """make_alloyd({section: {key: value}}, options...) gives an Alloyd, not yet started; all are ended and checked."""
    made = request.node.alloy_processes = []

    def make(sections, *options):
        alloyd = harness.Alloyd(tmp_path, sections, options)
        made.append(alloyd)
        return alloyd

    yield make
    for alloyd in made:
        alloyd.finish()


@pytest.fixture
def alloyd(make_alloyd, redis, clickhouse, table):
    """An alloyd with one stream, events, into this test's table."""
    return make_alloyd(sections_for(redis, clickhouse, table)).start()


def sections_for(redis, clickhouse, table, /, **more):
    sections = {
        "stream.events": {"path": "/v1/events", "table": table, "id": "event_id"},
        # A machine that is slow for a moment is no Redis that is away.
        "redis": {"url": redis.url if redis else "", "timeout": "3s"},
        "clickhouse": {"url": clickhouse.url if clickhouse else "discard:"},
    }
    for section, keys in more.items():
        sections.setdefault(section.replace("__", "."), {}).update(keys)
    return sections
