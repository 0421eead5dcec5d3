# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from holdfast_harness import Holdfast  # noqa: E402


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
