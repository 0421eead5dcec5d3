# SPDX-License-Identifier: Apache-2.0
"""What the lint checks share: the list of files, C without comments and texts, reporting and self-tests."""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

SKIPPED_FOLDERS = re.compile(r"(^|/)(\.git|\.dev|build[^/]*|node_modules|dist|__pycache__|bench-results|test-results)/")


class Finding:
    """One thing to change: where, what is wrong, and what to do."""

    def __init__(self, path, line, message):
        self.path = path
        self.line = line
        self.message = message

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message}"


def tree_files(root):
    """Paths relative to root, sorted: what git knows or would add, or every file where there is no git."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True).stdout.decode()
        names = [name for name in listed.split("\0") if name]
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    names = [name for name in names if not SKIPPED_FOLDERS.search(name)]
    return sorted(name for name in set(names) if (root / name).is_file())


def read_text(root, name):
    """The file's text, or None for one that is not text."""
    try:
        return (root / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


C_TOKENS = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def c_code_only(text):
    """C with comments and texts blanked, every line still in its place. Include lines keep their names."""
    def blank(match):
        token = match.group(0)
        line_start = text.rfind("\n", 0, match.start()) + 1
        if token[0] == '"' and re.match(r"\s*#\s*include\b", text[line_start:match.start()]):
            return token
        return re.sub(r"[^\n]", " ", token)
    return C_TOKENS.sub(blank, text)


def run_self_test(check, planted, clean):
    """Each planted case is (files, part of the finding); `clean` is a tree that must give none."""
    failures = []
    for files, expected in planted + [(clean, None)]:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            found = [str(finding) for finding in check(root)]
        if expected is None and found:
            failures.append(f"a clean tree is reported: {found}")
        if expected is not None and not any(expected in line for line in found):
            failures.append(f"'{expected}' is not found; reported: {found}")
        if expected is not None and len(found) != 1:
            failures.append(f"'{expected}' should be the only finding; reported: {found}")
    for failure in failures:
        print(f"self-test: {failure}", file=sys.stderr)
    print(f"self-test: {len(planted)} planted violations, {len(failures)} failures")
    return 1 if failures else 0


def main(description, check, planted, clean, record=None):
    """The command line of a check; returns the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2],
                        help="the tree to check")
    parser.add_argument("--self-test", action="store_true", help="prove that planted violations are found")
    if record is not None:
        parser.add_argument("--record", action="store_true", help=record.__doc__)
    options = parser.parse_args()
    if options.self_test:
        return run_self_test(check, planted, clean)
    if record is not None and options.record:
        record(options.root)
    findings = check(options.root)
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0
