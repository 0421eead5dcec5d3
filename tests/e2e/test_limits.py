# SPDX-License-Identifier: Apache-2.0
"""Limits hold for what runs, and change while it runs. Red: a cap is only a number, or only holds for the next run.

Nothing here is about how fast a machine is: a cap is so low that under it the run would take many minutes, and what
could have gone through by now is counted.
"""

import os
import time

from holdfast_harness import cli, servers

MIB = 1 << 20
CAP = 64 << 10  # bytes a second, the least there may be
PACK = 16 * MIB  # goes at once


def publishing(holdfast, backup):
    """Waits until its only shard stores something; since when it does, by our clock, at the latest."""

    def is_storing(value):
        assert value["shards"][0]["state"] in ("pending", "running"), value
        return value["shards"][0].get("phase") == "publish" and holdfast.repository_bytes() > PACK // 2

    holdfast.wait(f"/v1/backups/{backup}/shards", is_storing, 120)
    return time.monotonic()


def held_up(holdfast, backup):
    """Waits until it publishes under CAP, and checks that it does; how many bytes can be there by now."""
    started = publishing(holdfast, backup)
    # All but a pack or two waits for its turn.
    time.sleep(5)
    held = holdfast.repository_bytes()
    possible = 2 * PACK + CAP * (time.monotonic() - started + 10)
    assert held < possible, f"{held} bytes are there, {possible:.0f} are possible"
    return possible


def finish_raised(holdfast, backup, possible, raised):
    """Waits for its end under the higher cap that holds since `raised`; how long it took, and what was left then."""
    done = holdfast.wait_backup(backup, 120)
    took = time.monotonic() - raised
    left = done["stored_bytes"] - possible
    assert left > PACK, f"{done['stored_bytes']} bytes are too few to tell"
    assert took < left / CAP / 2, "the new cap did not arrive"
    return took, left


def run(holdfast, *arguments):
    done = cli(holdfast, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cap_holds_and_is_raised_under_way(holdfast):
    source = holdfast.source("postgresql", noise_mib=80)
    holdfast.create_database("shop", "postgresql", [source])
    policy = ["shop", "minutely", "--schedule", "* * * * *", "--repository", "main"]
    run(holdfast, "policy", "create", *policy, "--upload-limit", "64KiB", "--memory", "64MiB", "--cpus", "1")
    found = holdfast.wait("/v1/backups", lambda value: value["backups"], 90)["backups"][0]
    run(holdfast, "policy", "pause", "shop", "minutely")
    possible = held_up(holdfast, found["id"])
    # A higher cap of the policy is for the run that is under way, and holds as well.
    raised = time.monotonic()
    run(holdfast, "policy", "update", "shop", "minutely", "--upload-limit", "8MiB")
    took, left = finish_raised(holdfast, found["id"], possible, raised)
    assert took > (left - 2 * PACK) / (8 * MIB)
    holdfast.verify_backup(found["id"], [source])


def test_a_run_has_a_cap_of_its_own_and_can_be_canceled_under_it(holdfast):
    source = holdfast.source("mariadb", noise_mib=48)
    holdfast.create_database("shop", "mariadb", [source])
    backup = holdfast.start_backup("shop", limits={"upload_bytes_per_second": CAP})
    publishing(holdfast, backup)
    begun = time.monotonic()
    run(holdfast, "backup", "cancel", backup)
    holdfast.wait_backup(backup, 60, state="canceled")
    assert time.monotonic() - begun < 60
    holdfast.wait_clean()
    backup = holdfast.start_backup("shop", limits={"upload_bytes_per_second": CAP})
    publishing(holdfast, backup)
    run(holdfast, "backup", "limit", backup, "--cpus", "1")
    done = holdfast.wait_backup(backup, 120)
    assert done["limits"]["upload_bytes_per_second"] == 0 and done["limits"]["cpu_count"] == 1
    # A restore: held up under its cap, then not.
    directory = os.path.join(holdfast.home, "restored")
    servers.make_directory(directory)
    restore = holdfast.post(
        "/v1/restores",
        {
            "backup": backup,
            "mode": "directory",
            "directory": directory,
            "limits": {"download_bytes_per_second": CAP},
        },
    )["id"]
    holdfast.wait(f"/v1/restores/{restore}", lambda value: value["shards"][0]["done_bytes"] > 0, 60)
    time.sleep(3)
    assert holdfast.get(f"/v1/restores/{restore}")["state"] == "running"
    run(holdfast, "restore", "limit", restore)
    done = holdfast.wait(f"/v1/restores/{restore}", lambda value: value["state"] != "running", 60)
    assert done["state"] == "succeeded", done


def test_the_cap_of_the_fleet_is_raised_under_way(holdfast):
    source = holdfast.source("postgresql", noise_mib=80)
    holdfast.create_database("shop", "postgresql", [source])
    run(holdfast, "limits", "update", "--upload-limit", "64KiB")
    backup = holdfast.start_backup("shop")
    possible = held_up(holdfast, backup)
    raised = time.monotonic()
    run(holdfast, "limits", "update", "--upload-limit", "1GiB")
    finish_raised(holdfast, backup, possible, raised)
    holdfast.verify_backup(backup, [source])


def test_the_cap_of_the_fleet_holds_whatever_the_server(two_servers):
    home, first, second, _ = two_servers
    source = home.source("postgresql", noise_mib=80)
    home.create_database("shop", "postgresql", [source])
    home.call("PATCH", "/v1/limits", {"upload_bytes_per_second": CAP})
    backup = home.start_backup("shop")
    possible = held_up(home, backup)
    # The instance speaks with one of the two: one of the changes was not made there.
    raised = time.monotonic()
    home.current = second
    home.call("PATCH", "/v1/limits", {"upload_bytes_per_second": 0})
    finish_raised(home, backup, possible, raised)
    home.verify_backup(backup, [source])


def test_limits_that_are_wrong(holdfast):
    source = holdfast.source("mariadb", start_writer=False)
    holdfast.create_database("shop", "mariadb", [source])
    policy = ["policy", "create", "shop", "p", "--schedule", "@daily", "--repository", "main"]
    for option, value, words in (
        ("--upload-limit", "1KiB", "64 KiB"),
        ("--download-limit", "-1", "bytes"),
        ("--upload-limit", "fast", "bytes"),
        ("--memory", "1MiB", "64 MiB"),
        ("--cpus", "-2", "one thread for each processor"),
    ):
        done = cli(holdfast, *policy, option, value)
        assert done.returncode != 0 and words in done.stderr, (option, value, done.stderr)
    done = cli(holdfast, "repository", "update", "main", "--upload-limit", "5")
    assert done.returncode != 0 and "64 KiB" in done.stderr
    run(holdfast, "repository", "update", "main", "--upload-limit", "20MiB")
    assert "20.0 MiB" in run(holdfast, "repository", "show", "main")
    run(holdfast, "limits", "update", "--download-limit", "20MiB")
    for arguments, words in (
        (["--download-limit", "5"], "64 KiB"),
        (["--download-limit", "1MiB", "--if-match", "other"], "changed"),
        ([], "nothing to change"),
    ):
        done = cli(holdfast, "limits", "update", *arguments)
        assert done.returncode != 0 and words in done.stderr, (arguments, done.stderr)
    assert "20.0 MiB" in run(holdfast, "limits", "show")
