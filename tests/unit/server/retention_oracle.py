# SPDX-License-Identifier: Apache-2.0
"""What retention must keep, by brute force over whole histories with Python's own calendar and time zones: a second
opinion that shares no code and no algorithm with server/service/retention.c.

It is restic's `forget` (without its exception for the oldest snapshot), with borg's hours, days, ISO weeks, months and
years: the newest backup of each of the last n periods that have one; rules do not know of each other. An hour that the
clock shows twice is two.

Prints lines `now|last,for,hourly,daily,weekly,monthly,yearly|backup backup ...`, newest first; a backup is
`checkpoint:local:kind:keeper,keeper`, times in microseconds, kind s (succeeded), u (succeeded, does not restore),
f (failed with parts) or m (by hand).
"""
import datetime
import random
import zoneinfo

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
# Zone, and moments around which its clocks do something.
PLACES = [
    ("UTC", "2026-01-01 00:00"), ("UTC", "2024-02-29 12:00"),
    ("Europe/Berlin", "2026-03-29 01:00"), ("Europe/Berlin", "2026-10-25 01:00"),
    ("America/New_York", "2026-03-08 07:00"), ("America/New_York", "2026-11-01 06:00"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"), ("Australia/Lord_Howe", "2026-10-03 15:30"),  # half an hour
    ("Antarctica/Troll", "2026-10-25 01:00"),  # two hours
    ("Pacific/Apia", "2011-12-30 10:00"),  # a day left out
    ("America/Havana", "2026-11-01 05:00"), ("America/St_Johns", "2006-10-29 02:31"),  # over midnight and back
    ("Asia/Kathmandu", "2027-01-03 18:15"), ("Africa/Cairo", "2026-04-23 22:00"), ("Asia/Tehran", "2022-09-21 19:30"),
]
PERIODS = [
    ("keep_hourly", lambda local: (local.date(), local.hour, local.utcoffset())),
    ("keep_daily", lambda local: local.date()),
    ("keep_weekly", lambda local: local.isocalendar()[:2]),
    ("keep_monthly", lambda local: (local.year, local.month)),
    ("keep_yearly", lambda local: local.year),
]


def keepers(backups, now, counts, age, zone):
    """For each backup the words of what keeps it."""
    words = [set() for _ in backups]
    restorable = [index for index, (_, kind) in enumerate(backups) if kind == "s"]
    if restorable:
        words[restorable[0]].add("newest")
    for index in restorable[:counts["keep_last"]]:
        words[index].add("keep_last")
    for rule, period_of in PERIODS:
        newest = {}
        for index in restorable:
            period = period_of(backups[index][0].astimezone(zone))
            if period not in newest or backups[index][0] > backups[newest[period]][0]:
                newest[period] = index
        for index in sorted(newest.values(), key=lambda index: backups[index][0], reverse=True)[:counts[rule]]:
            words[index].add(rule)
    for index, (moment, kind) in enumerate(backups):
        if kind in "su" and age and now - moment <= age:
            words[index].add("keep_for")
        if kind == "f" and not any(other < index for other in restorable):
            words[index].add("incomplete")
        if kind == "m":
            words[index] = {"manual"}
    return words


def microseconds(moment):
    return (moment - EPOCH) // MICROSECOND


def history(chance):
    name, around = chance.choice(PLACES)
    zone = zoneinfo.ZoneInfo(name)
    moment = datetime.datetime.fromisoformat(around).replace(tzinfo=UTC) + datetime.timedelta(
        seconds=chance.randint(-7200, 7200))
    step = chance.choice([7 * 60, 25 * 60, 3600, 6 * 3600, 86400, 3 * 86400, 20 * 86400, 200 * 86400])
    count = chance.randint(1, 40)
    moment += datetime.timedelta(seconds=step) * chance.randint(0, count)  # the clocks change within
    now = moment + datetime.timedelta(seconds=chance.randint(1, step))
    backups = []
    for _ in range(count):
        backups.append((moment, chance.choices("sufm", [16, 2, 2, 1])[0]))
        moment -= datetime.timedelta(seconds=max(1, chance.randint(step // 2, 2 * step)),
                                     microseconds=chance.randint(0, 999999))
    rules = ["keep_last"] + [rule for rule, _ in PERIODS]
    counts = {rule: chance.choice([0, 0, 1, 2, 3, 5, 24]) for rule in rules}
    age = datetime.timedelta(seconds=chance.choice([0, 0, 0, step, 5 * step]))
    if not any(counts.values()) and not age:
        counts["keep_daily"] = 3
    words = keepers(backups, now, counts, age, zone)
    texts = []
    for (at, kind), kept in zip(backups, words):
        local = at.astimezone(zone).replace(tzinfo=UTC)
        texts.append(f"{microseconds(at)}:{microseconds(local)}:{kind}:{','.join(sorted(kept))}")
    rule = ",".join(str(number) for number in [counts["keep_last"], age // MICROSECOND] +
                    [counts[rule] for rule, _ in PERIODS])
    print(f"{microseconds(now)}|{rule}|{' '.join(texts)}")


def main():
    chance = random.Random(20261125)
    for _ in range(3000):
        history(chance)


main()
