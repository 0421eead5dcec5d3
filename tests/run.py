# SPDX-License-Identifier: Apache-2.0
"""Runs every test and ends in one line: N passed, N failed, N skipped.

    ./dev test [--only STAGE[,STAGE...]] [-k EXPRESSION]

Stages, basic to complex: lint, build, unit, conformance, integration, asan, e2e, browser. A stage that cannot run is a
failure, and so is one in which no test ran: in continuous integration nothing is skipped silently.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STATE = os.path.realpath(os.environ.get("HOLDFAST_DEV_STATE") or os.path.join(ROOT, ".dev"))
RESULTS = os.path.join(ROOT, "test-results")
PYTHON = "/usr/bin/python3"
# The engines' tests spend their time in database servers, which are not built with sanitizers.
LONG_WITH_SANITIZERS = "^test_engine_((mariadb|mysql)(_failures)?|postgresql(_source)?)$"
STAGES = ["lint", "build", "unit", "conformance", "integration", "asan", "e2e", "browser"]
FORMATTER_VERSION = 14
# Most of a test's time is waiting: for a schedule, a server's start, a disk. More of them than cores keep these busy.
JOBS = str(2 * (os.cpu_count() or 2))


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def add(self, name, outcome, detail=""):
        if outcome == "passed":
            self.passed += 1
        elif outcome == "skipped":
            self.skipped += 1
        else:
            self.failed += 1
            self.failures.append((name, detail))


def run(command, log=None, environment=None, directory=ROOT):
    """Runs a command; its output goes to the terminal, or to a log whose tail is shown when it fails."""
    merged = {**os.environ, **(environment or {})}
    if log is None:
        return subprocess.run(command, cwd=directory, env=merged, stdin=subprocess.DEVNULL, check=False).returncode
    with open(log, "wb") as file:
        code = subprocess.run(
            command, cwd=directory, env=merged, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        ).returncode
    if code != 0:
        with open(log, errors="replace", encoding="utf-8") as file:
            print("".join(file.readlines()[-60:]))
    return code


def tracked(*patterns):
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()
    return [name for name in listing if os.path.exists(os.path.join(ROOT, name))]


def check(tally, name, command, environment=None):
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    tally.add(f"lint: {name}", "passed" if result.returncode == 0 else "failed", result.stdout[-3000:])
    print(f"  {'ok  ' if result.returncode == 0 else 'FAIL'} {name}", flush=True)


def formatter_version():
    """The main version of clang-format; None without one."""
    try:
        text = subprocess.run(["clang-format", "--version"], check=False, stdout=subprocess.PIPE, text=True).stdout
    except FileNotFoundError:
        return None
    found = re.search(r"version (\d+)", text)
    return int(found.group(1)) if found else None


def stage_lint(tally, _):
    version = formatter_version()
    if version == FORMATTER_VERSION:
        check(tally, "formatting (run ./dev fmt)", ["clang-format", "--dry-run", "--Werror", *tracked("*.c", "*.h")])
    else:
        # Every version formats a little differently, and one has to be right.
        tally.add("lint: formatting", "skipped" if version else "failed", "clang-format is missing: run ./dev setup")
        found = f"version {version} here" if version else "missing here"
        print(f"  skip formatting: it is defined by clang-format {FORMATTER_VERSION} (Debian 12), {found}", flush=True)
    for script in sorted(tracked("tests/lint/check_*.py")):
        check(tally, script, [PYTHON, script])
        check(tally, script + " --self-test", [PYTHON, script, "--self-test"])
    check(tally, "shell scripts parse", ["bash", "-n", "dev", *tracked("*.sh"), ".ci/run"])


def build_directory(sanitize):
    return os.path.join(STATE, "build-asan" if sanitize else "build")


def build(tally, sanitize):
    directory = build_directory(sanitize)
    os.makedirs(STATE, exist_ok=True)
    configure = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", directory]
    if sanitize:
        configure += ["-DHOLDFAST_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    name = "build" + (" with sanitizers" if sanitize else "")
    ok = (
        run(configure, os.path.join(RESULTS, "cmake.log")) == 0
        and run(["cmake", "--build", directory], os.path.join(RESULTS, "build.log")) == 0
    )
    tally.add(name, "passed" if ok else "failed", "see test-results/build.log")
    return ok


def ctest(tally, directory, label, prefix="", environment=None, without=""):
    report = os.path.join(RESULTS, f"{prefix}{label}.xml")
    exclusion = ["-E", without] if without else []
    run(
        [
            "ctest",
            "--test-dir",
            directory,
            "-L",
            f"^{label}$",
            *exclusion,
            "--output-on-failure",
            "--no-tests=error",
            "-j",
            JOBS,
            "--output-junit",
            report,
        ],
        environment=environment,
    )
    if not os.path.exists(report):
        tally.add(f"{prefix}{label}", "failed", "ctest wrote no report")
        return
    cases = ElementTree.parse(report).getroot().iter("testcase")
    count = 0
    for case in cases:
        count += 1
        output = case.findtext("system-out") or ""
        inner_passed = len(re.findall(r"^\[       OK \]", output, re.M))
        inner_failed = len(re.findall(r"^\[  FAILED  \] [A-Za-z_0-9]+$", output, re.M))
        inner_skipped = len(re.findall(r"^\[  SKIPPED \] [A-Za-z_0-9]+$", output, re.M))
        name = f"{prefix}{label}: {case.get('name')}"
        if case.get("status") in ("run", "passed") and case.find("failure") is None:
            for _ in range(max(1, inner_passed)):
                tally.add(name, "passed")
        else:
            for _ in range(inner_passed):
                tally.add(name, "passed")
            tally.add(name, "failed", output[-3000:])
            for _ in range(max(0, inner_failed // 2 - 1)):
                tally.add(name, "failed")
        for _ in range(inner_skipped // 2):
            tally.add(name, "skipped")
    if count == 0:
        tally.add(f"{prefix}{label}", "failed", "no test ran")


def sanitizer_environment():
    suppressions = os.path.join(ROOT, "tests", "harness", "lsan.supp")
    leak = f"suppressions={suppressions}:print_suppressions=0" if os.path.exists(suppressions) else ""
    return {
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
        "LSAN_OPTIONS": leak,
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def stage_build(tally, _):
    web = run(["bash", "./dev", "build"], os.path.join(RESULTS, "build.log"))
    tally.add("build", "passed" if web == 0 else "failed", "see test-results/build.log")
    if web == 0:
        check_reference(tally, "docs/configuration.md", ["server/holdfastd", "--config-reference"])


def check_reference(tally, document, command):
    """A document whose last part a program prints."""
    printed = subprocess.run(
        [os.path.join(build_directory(False), command[0]), *command[1:]], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    with open(os.path.join(ROOT, document), encoding="utf-8") as file:
        is_current = file.read().endswith(printed)
    cure = f"it does not end with what '{' '.join(command)}' prints; replace that part"
    tally.add(document, "passed" if is_current else "failed", cure)


def stage_asan(tally, _):
    if build(tally, True):
        for label in ("unit", "conformance", "integration"):
            ctest(tally, build_directory(True), label, "asan-", sanitizer_environment(), LONG_WITH_SANITIZERS)


def pytest(tally, name, folder, arguments, *options):
    report = os.path.join(RESULTS, f"{name}.xml")
    command = [
        PYTHON,
        "-m",
        "pytest",
        "-q",
        "-x" if arguments.exitfirst else "-q",
        "-p",
        "no:cacheprovider",
        "--junitxml",
        report,
        "--durations=10",
        *options,
        folder,
    ]
    if arguments.k:
        command += ["-k", arguments.k]
    run(
        command,
        environment={
            "HOLDFAST_BUILD": build_directory(False),
            "HOLDFAST_DEV_STATE": STATE,
            "HOLDFAST_TEST_RESULTS": RESULTS,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    count = 0
    if os.path.exists(report):
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            count += 1
            problem = case.find("failure") if case.find("failure") is not None else case.find("error")
            outcome = "failed" if problem is not None else "skipped" if case.find("skipped") is not None else "passed"
            tally.add(
                f"{name}: {case.get('classname')}.{case.get('name')}",
                outcome,
                (problem.text or "")[-3000:] if problem is not None else "",
            )
    if count == 0:
        tally.add(name, "failed", "no test ran")


def stage_e2e(tally, arguments):
    pytest(tally, "e2e", "tests/e2e", arguments, "-n", JOBS, "--dist", "loadgroup")


def stage_browser(tally, arguments):
    pytest(tally, "browser", "tests/browser", arguments)


def main():
    parser = argparse.ArgumentParser(
        prog="./dev test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="stages, separated by commas")
    parser.add_argument("-k", default="", help="for e2e and browser: pytest's expression")
    parser.add_argument("--exitfirst", action="store_true", help="for e2e and browser: stop at the first failure")
    arguments = parser.parse_args()
    stages = [stage for stage in arguments.only.split(",") if stage] or STAGES
    for stage in stages:
        if stage not in STAGES:
            parser.error(f"there is no stage '{stage}'; the stages are {', '.join(STAGES)}")
    os.makedirs(RESULTS, exist_ok=True)
    os.environ.setdefault("HOLDFAST_MYSQL_DIR", os.path.join(STATE, "mysql"))
    os.environ.setdefault("HOLDFAST_TOOLS_DIR", os.path.join(STATE, "tools"))
    tally = Tally()
    timings = {}
    for stage in stages:
        print(f"\n==> {stage}", flush=True)
        start = time.monotonic()
        handler = globals().get(f"stage_{stage}")
        if handler:
            handler(tally, arguments)
        else:
            ctest(tally, build_directory(False), stage)
        timings[stage] = round(time.monotonic() - start, 1)
        if stage == "build" and tally.failed:
            break
    with open(os.path.join(RESULTS, "timings.json"), "w", encoding="ascii") as file:
        json.dump(timings, file, indent=1)
    print("\n" + ", ".join(f"{stage} {seconds} s" for stage, seconds in timings.items()))
    for name, detail in tally.failures:
        print(f"\nFAILED {name}\n{detail.rstrip()}")
    print(f"\n{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
