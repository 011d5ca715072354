"""The fault table, tests/faults.md: every cell is filled, and every test it names is there."""

import os
import re
import sys

TESTS = os.path.dirname(os.path.abspath(__file__))
NAMED = re.compile(r"`(integration|unit)/(\w+)\.(\w+)`")


def has_test(kind, file, name):
    pattern = r"def test_%s\b" if kind == "integration" else r"\b(?:test_)?%s\(void \*\*"
    path = "integration/%s.py" % file if kind == "integration" else "unit/test_%s.c" % file
    try:
        with open(os.path.join(TESTS, path)) as source:
            return re.search(pattern % name, source.read()) is not None
    except FileNotFoundError:
        return False


def rows(text):
    """The table's, as lists of cells; the first is the heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines
            if not set(line) <= set("|-")]


def offences(text):
    table = rows(text)
    for row in table[1:]:
        if len(row) != len(table[0]) or "" in row:
            yield "%s: a cell is empty or missing" % row[0]
        for cell in row[1:]:
            for kind, file, name in NAMED.findall(cell):
                if not has_test(kind, file, name):
                    yield "%s: there is no test %s/%s.%s" % (row[0], kind, file, name)


def main():
    with open(os.path.join(TESTS, "faults.md")) as file:
        text = file.read()
    found = list(offences(text))
    for line in found:
        print(line)
    # The check itself, checked.
    blind = not list(offences(text + "| x | `unit/spool.no_such_test` |\n"))
    if blind:
        print("the check itself lets an offence through")
    return bool(found) or blind or len(rows(text)) < 2


if __name__ == "__main__":
    sys.exit(main())
