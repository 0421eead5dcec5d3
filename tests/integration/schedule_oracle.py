# SPDX-License-Identifier: Apache-2.0
"""Expected slots of schedules, by brute force over every minute, with Python's own time zones: a second opinion that
shares no code and no algorithm with server/service/cron.c.

Prints lines `zone|schedule|from|end|slot slot ...` (seconds since 1970; there is no other slot before the end).
"""
import datetime
import zoneinfo

UTC = datetime.timezone.utc
MINUTE = datetime.timedelta(minutes=1)
NAMES = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
NAMES.update({name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())})
WINDOWS = [  # zone, first day, days
    ("Europe/Berlin", "2026-03-28", 3), ("Europe/Berlin", "2026-10-24", 3),
    ("America/New_York", "2026-03-07", 3), ("America/New_York", "2026-10-31", 3),
    ("Australia/Lord_Howe", "2026-04-04", 3), ("Australia/Lord_Howe", "2026-10-03", 3),  # half an hour
    ("Antarctica/Troll", "2026-03-28", 3), ("Antarctica/Troll", "2026-10-24", 3),  # two hours
    ("Africa/Casablanca", "2026-02-14", 3), ("Africa/Casablanca", "2026-03-21", 3),  # backwards for Ramadan
    ("Pacific/Apia", "2011-12-29", 4),  # a whole day skipped
    ("America/Santiago", "2026-09-05", 3), ("Africa/Cairo", "2026-04-23", 3),  # midnight is skipped
    ("America/Havana", "2026-10-31", 3),  # midnight comes twice
    ("Asia/Kathmandu", "2026-06-01", 2), ("UTC", "2026-06-01", 2), ("Asia/Tehran", "2022-09-20", 4),
]
SCHEDULES = ["30 2 * * *", "0 0 * * *", "30 0 * * *", "15,45 1-3 * * *", "0 * * * *", "*/10 * * * *", "* 2 * * *",
             "0 */2 * * *", "0 3 * * *", "30 1 * * sun", "20-40/5 0,2 * * *", "0 2 28-31 * *", "59 1,2,23 * * *",
             "0 0-23 * * *", "5 4 1 * 0"]


def field(text, first, last):
    values = set()
    for item in text.split(","):
        body, _, step = item.partition("/")
        if body == "*":
            low, high = first, last
        else:
            low, _, high = (part for part in body.partition("-"))
            low = NAMES[low] if low in NAMES else int(low)
            high = low if not high else NAMES[high] if high in NAMES else int(high)
        values.update(range(low, high + 1, int(step or 1)))
    return values


def slots(schedule, zone, start, end):
    texts = schedule.split()
    minutes, hours, days, months, weekdays = (
        field(text, first, last) for text, (first, last) in zip(texts, [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]))
    is_absolute = len(minutes) == 60 or len(hours) == 24

    def matches(local):
        day, weekday = local.day in days, local.isoweekday() % 7 in weekdays
        is_day = day and weekday if texts[2][0] == "*" or texts[4][0] == "*" else day or weekday
        return local.minute in minutes and local.hour in hours and local.month in months and is_day

    found, moment = [], start
    before = (start - MINUTE).astimezone(zone).replace(tzinfo=None)
    while moment < end:
        aware = moment.astimezone(zone)
        local = aware.replace(tzinfo=None)
        if is_absolute:
            fires = matches(local)
        else:
            fires = matches(local) and aware.fold == 0
            skipped = before + MINUTE
            while skipped < local and not fires:  # the wall clock jumped
                fires = matches(skipped)
                skipped += MINUTE
        if fires:
            found.append(int(moment.timestamp()))
        before = local
        moment += MINUTE
    return found


for name, first_day, count in WINDOWS:
    start = datetime.datetime.fromisoformat(first_day).replace(tzinfo=UTC)
    end = start + datetime.timedelta(days=count)
    for schedule in SCHEDULES:
        expected = slots(schedule, zoneinfo.ZoneInfo(name), start, end)
        print(f"{name}|{schedule}|{int(start.timestamp()) - 1}|{int(end.timestamp())}|{' '.join(map(str, expected))}")
