# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from holdfast_harness import Holdfast  # noqa: E402


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
