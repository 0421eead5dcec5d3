# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from holdfast_harness import Holdfast, Server, free_port, servers  # noqa: E402


# Begun first, so that the others are done beside them.
LONG = (
    "test_missed_slots_collapse_into_one",
    "test_twenty_random_kills",
    "test_policy_retention_with_dry_run",
    "test_two_servers_share_the_work",
    "test_killed_in_each_phase",
)
# These share what a fixture of their module made: one process runs them.
TOGETHER = ("test_contract",)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.originalname) if item.originalname in LONG else len(LONG))
    for item in items:
        if item.module.__name__ in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture
def holdfast():
    """A fresh server with a repository and a credential."""
    instance = Holdfast()
    try:
        instance.start()
        instance.ensure_basics()
        yield instance
    finally:
        instance.close()


@pytest.fixture
def holdfast_without_repository():
    """The same, without the repository."""
    instance = Holdfast()
    try:
        instance.start()
        instance.ensure_credential()
        yield instance
    finally:
        instance.close()


@pytest.fixture
def two_servers():
    """Two servers on one external PostgreSQL, and that; requests go to the first."""
    home = Holdfast()
    cluster = servers.PostgresServer(os.path.join(home.home, "control"), free_port())
    cluster.start()
    cluster.query("CREATE ROLE control LOGIN PASSWORD 'control-password'")
    cluster.query("CREATE DATABASE control OWNER control")
    url = f"postgresql://control:control-password@127.0.0.1:{cluster.port}/control"
    secret = os.path.join(home.home, "shared.key")
    first, second = (Server(home.home, name, url, ["--secret-key-file", secret]) for name in ("first", "second"))
    home.server = first
    try:
        first.start()
        second.start()
        home.use(first)
        home.ensure_basics()
        assert home.get("/v1/server")["server_count"] == 2
        yield home, first, second, cluster
    finally:
        home.stop_writers()
        second.stop()
        home.close()
        cluster.stop()
