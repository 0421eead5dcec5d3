#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rules of the style guide that a machine can check: banned calls, lengths, names, licence tags, open ends."""

import ast
import re
import sys

import lint_tree

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
LINE_CHARACTERS_MAX = 120
TAGGED = (".c", ".h", ".py", ".sh", ".sql", ".ts", ".tsx", ".css", ".proto", ".def")
REPEATABLE_NAMES = {"main.c", "README.md", "CMakeLists.txt", "__init__.py", "conftest.py", ".gitignore"}
FROZEN = re.compile(r"tests/golden/v[^/]*/")  # their names are part of the format
TAG = "SPDX-License-Identifier: Apache-2.0"

# Called by name, not as a member (`driver->free(...)` is somebody's own).
CALL = r"(?<![\w.>])({names})\s*\("
BANNED = {
    "sprintf": "snprintf, or string_format, arena_format, buffer_append_format",
    "vsprintf": "vsnprintf",
    "strcpy": "string_copy or arena_string",
    "strcat": "a Buffer",
    "strncpy": "snprintf or memcpy with a known size",
    "strtok": "text_split",
    "gets": "file_read",
    "system": "process_run",
    "popen": "process_run",
    "fork": "process_spawn: gRPC forbids fork without exec",
    "vfork": "process_spawn",
    "alloca": "a fixed array or mem_alloc",
}
RAW_MEMORY = ["malloc", "calloc", "realloc", "reallocarray", "strdup", "strndup", "asprintf", "vasprintf", "free",
              "posix_memalign", "aligned_alloc"]
BANNED_CALL = re.compile(CALL.format(names="|".join(BANNED)))
RAW_MEMORY_CALL = re.compile(CALL.format(names="|".join(RAW_MEMORY)))
OPEN_END = re.compile(r"\b(" + "TO" + r"DO|FIX" + r"ME)\b(?!\(#\d+\))")
LONG_URL = re.compile(r"https?://\S{40,}")
LONG_FUNCTION_ALLOWED = re.compile(r"(//|#) NOLINT: long, \S")


def check_banned(name, code, findings):
    for number, line in enumerate(code.split("\n"), 1):
        for match in BANNED_CALL.finditer(line):
            call = match.group(1)
            findings.append(lint_tree.Finding(name, number, f"{call}() is banned: use {BANNED[call]}"))
        for match in RAW_MEMORY_CALL.finditer(line):
            if name != "common/memory.c":
                findings.append(lint_tree.Finding(
                    name, number, f"{match.group(1)}() belongs to common/memory.c: use mem_* or string_*"))


def c_function_start(lines, opening):
    """The first line of the declaration whose body opens at this line."""
    start = opening
    while start > 0 and lines[start - 1].strip() and not re.search(r"[;}]\s*$|^\s*#", lines[start - 1]):
        start -= 1
    return start


def check_c_functions(name, text, code, findings):
    lines = code.split("\n")
    originals = text.split("\n")
    opening = None
    for index, line in enumerate(lines):
        if line.rstrip() == "{":
            opening = index
        elif opening is not None and re.match(r"\}\s*$", line):
            length = index - opening + 1
            start = c_function_start(lines, opening)
            head = originals[start:opening + 1]
            if length > FUNCTION_LINES_MAX and not any(LONG_FUNCTION_ALLOWED.search(one) for one in head):
                findings.append(too_long(name, start + 1, length))
            opening = None


def check_python_functions(name, text, findings):
    lines = text.split("\n")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        findings.append(lint_tree.Finding(name, error.lineno or 1, f"not Python: {error.msg}"))
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES_MAX and not LONG_FUNCTION_ALLOWED.search(lines[node.lineno - 1]):
                findings.append(too_long(name, node.lineno, length))


def too_long(name, line, length):
    return lint_tree.Finding(
        name, line, f"the function has {length} lines, {FUNCTION_LINES_MAX} are allowed: split it, "
                    "or say why not with 'NOLINT: long, <reason>' on its first line")


def check_text(name, text, findings):
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) > FILE_LINES_MAX:
        findings.append(lint_tree.Finding(
            name, FILE_LINES_MAX + 1,
            f"the file has {len(lines)} lines, {FILE_LINES_MAX} are allowed: split it by topic"))
    if not any(TAG in line for line in lines[:3]):
        findings.append(lint_tree.Finding(name, 1, f"no licence tag: add '{TAG}' as a comment at the top"))
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_CHARACTERS_MAX and not LONG_URL.search(line):
            findings.append(lint_tree.Finding(
                name, number, f"the line has {len(line)} characters, {LINE_CHARACTERS_MAX} are allowed: break it"))
        match = OPEN_END.search(line)
        if match is not None:
            findings.append(lint_tree.Finding(
                name, number, f"{match.group(1)} without an issue: finish it, or write {match.group(1)}(#number)"))


def check_names(names, findings):
    seen = {}
    for name in names:
        base = name.rsplit("/", 1)[-1]
        if base in REPEATABLE_NAMES or FROZEN.match(name):
            continue
        if base in seen:
            findings.append(lint_tree.Finding(
                name, 1, f"the file name is taken by {seen[base]}: give one of them its folder's name as a prefix"))
        else:
            seen[base] = name


def check(root):
    findings = []
    names = lint_tree.tree_files(root)
    check_names(names, findings)
    for name in names:
        if not name.endswith(TAGGED):
            continue
        text = lint_tree.read_text(root, name)
        if text is None:
            findings.append(lint_tree.Finding(name, 1, "not UTF-8: save it as UTF-8"))
            continue
        check_text(name, text, findings)
        if name.endswith((".c", ".h")):
            code = lint_tree.c_code_only(text)
            check_banned(name, code, findings)
            check_c_functions(name, text, code, findings)
        elif name.endswith(".py"):
            check_python_functions(name, text, findings)
    return findings


HEAD = f"// {TAG}\n"


def function(line_count, note=""):
    return f"static int f(void){note}\n{{\n" + "    g();\n" * (line_count - 2) + "}\n"


PLANTED = [({"a.c": HEAD + f"int x = {call}(y);\n"}, f"a.c:2: {call}() is banned") for call in sorted(BANNED)]
PLANTED += [({"a.c": HEAD + f"x = {call}(y);\n"}, f"a.c:2: {call}() belongs to common/memory.c") for call in RAW_MEMORY]
PLANTED += [
    ({"a.c": HEAD + function(71)}, "a.c:2: the function has 71 lines"),
    ({"a.c": HEAD + function(71, " // NOLINT: long,")}, "the function has 71 lines"),
    ({"a.py": f"# {TAG}\ndef f():\n" + "    g()\n" * 70}, "a.py:2: the function has 71 lines"),
    ({"a.c": HEAD + "int a;\n" * 800}, "a.c:801: the file has 801 lines"),
    ({"x/a.c": HEAD, "y/a.c": HEAD}, "y/a.c:1: the file name is taken by x/a.c"),
    ({"a.c": HEAD + "// " + "x" * 118 + "\n"}, "a.c:2: the line has 121 characters"),
    ({"a.c": HEAD + "// " + "TO" + "DO: later\n"}, "a.c:2: " + "TO" + "DO without an issue"),
] + [({"a" + suffix: "x\n" if suffix != ".py" else "x = 1\n"}, f"a{suffix}:1: no licence tag") for suffix in TAGGED]
CLEAN = {
    "common/memory.c": HEAD + "void f(void)\n{\n    free(malloc(1));\n}\n",
    "a.c": HEAD + function(70) + "\n" + function(90, " // NOLINT: long, a table") + "\n"
           + "// system(x) is banned\nconst char *t = \"free(x)\";\nvoid g(void)\n{\n    driver->free(x);\n"
           + "    x.free(x);\n    mem_free(x);\n    operating_system(1);\n}\n// " + "TO" + "DO(#12): more\n"
           + "// " + "ä" * 117 + "\n",
    "x/main.c": HEAD, "y/main.c": HEAD, "x/README.md": "", "y/README.md": "",
    "tests/golden/v1/first.key": "", "tests/golden/v2/first.key": "",
}

if __name__ == "__main__":
    sys.exit(lint_tree.main(__doc__, check, PLANTED, CLEAN))
