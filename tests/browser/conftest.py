# SPDX-License-Identifier: Apache-2.0
"""One Holdfast and one browser for all tests of the dashboard.

Files run in the order of their names: test_arrival needs an empty fleet.
"""

import datetime
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "e2e")]

from browser import Browser  # noqa: E402
from holdfast_harness import Holdfast  # noqa: E402

LONG_NAME = "a-name-as-long-as-somebody-in-a-large-company-will-choose-it-xx"
FETCH_FAILED = "Failed to load resource"


@pytest.fixture(scope="session")
def browser():
    instance = Browser()
    yield instance
    instance.close()


@pytest.fixture(scope="session")
def holdfast():
    instance = Holdfast()
    try:
        instance.start()
        yield instance
    finally:
        instance.close()


@pytest.fixture(scope="session")
def fleet(holdfast):
    """shop is protected, ledger at risk (nothing is planned), orders and a database of 256 shards have no backup."""
    holdfast.ensure_basics()
    shop = [holdfast.source("mariadb"), holdfast.source("mariadb")]
    ledger = [holdfast.source("postgresql")]
    holdfast.create_database("shop", "mariadb", shop)
    holdfast.create_database("ledger", "postgresql", ledger)
    holdfast.create_database("orders", "mariadb", shop[:1])
    bounds = [""] + [f"{number:02x}" for number in range(1, 256)] + [""]
    holdfast.post(
        "/v1/databases",
        {
            "database": {"name": LONG_NAME, "engine": "mysql"},
            "shards": [
                {
                    "name": f"{bounds[number]}-{bounds[number + 1]}",
                    "source": {"host": f"{number}.keyspace.internal.example.com", "port": 3306, "credential": "source"},
                }
                for number in range(256)
            ],
        },
    )
    far = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=6)).hour
    holdfast.post(
        "/v1/databases/shop/policies",
        {
            "name": "nightly",
            "schedule": f"0 {far} * * *",
            "repository": "main",
            "retention": {"keep_last": 7, "keep_for": "2592000s"},
        },
    )
    first = [holdfast.start_backup("shop"), holdfast.start_backup("ledger")]
    for backup in first:
        holdfast.wait_backup(backup)
    holdfast.backup("shop")
    holdfast.shop, holdfast.ledger, holdfast.first_backup = shop, ledger, first[0]
    return holdfast


@pytest.fixture
def open_page(browser, holdfast):
    """Opens signed-in pages; afterwards none of them may have complained, but of what the test said it expects."""
    pages = []

    def open_one(path="fleet", **options):
        page = browser.open(holdfast.server.url + "/", **options)
        page.expected = []
        pages.append(page)
        page.fill("#token", holdfast.server.token())
        page.press("Enter")
        page.see("role=heading[name=Fleet]")
        if path != "fleet":
            page.go(path)
        return page

    yield open_one
    for page in pages:
        problems = [problem for problem in page.problems() if not any(word in problem for word in page.expected)]
        page.close()
        assert not problems, problems


@pytest.fixture
def page(open_page):
    return open_page()
