"""What a stranger counts on in the sources: a name is one thing, and a function fits on a page.

No two structs, unions or enums have the same name, wherever they are defined, and no function
is longer than 60 lines. Exits non-zero with one line per offence.
"""

import re
import sys

from include_order import report, sources

LINES_MOST = 60

# A definition of its own, or within another.
DEFINED = re.compile(r"^[ \t]*(?:typedef |static |const |extern )*(struct|union|enum) (\w+) \{", re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def without_comments(text):
    """The same lines, with nothing in them that could look like code."""
    return COMMENT.sub(lambda m: "\n" * m.group().count("\n"), text)


def shared_names(files):
    """Names that are defined in more than one place."""
    places = {}
    for path, text in files:
        for match in DEFINED.finditer(without_comments(text)):
            line = without_comments(text).count("\n", 0, match.start()) + 1
            places.setdefault(match.group(2), []).append("%s:%d" % (path, line))
    return ["%s: %s is defined more than once: %s" % (where[0], name, ", ".join(where[1:]))
            for name, where in sorted(places.items()) if len(where) > 1]


def long_functions(path, text):
    """A body begins with a brace in the first column, and ends with the next one there."""
    lines, begin = without_comments(text).split("\n"), None
    for number, line in enumerate(lines, 1):
        if line == "{":
            begin = number
        elif line.startswith("}") and begin:
            head = begin
            while head > 1 and lines[head - 2].strip() not in ("", "}"):
                head -= 1
            if number - head + 1 > LINES_MOST:
                yield "%s:%d: a function of %d lines" % (path, head, number - head + 1)
            begin = None


def check(files):
    files = list(files)
    return shared_names(files) + [f for path, text in files for f in long_functions(path, text)]


def can_fail():
    """The check itself, checked."""
    body = "int f(void)\n{\n%s}\n"
    return (len(check([("a.c", "struct s {\n};\n"), ("b.h", "static struct s {\n} x;\n")])) == 1
            and check([("a.c", body % ("    g();\n" * 58))])
            and not check([("a.c", body % ("    g();\n" * 57) + "/* struct s {\n */ struct s {\n"),
                           ("b.c", "struct s *s; enum t { A };\n")]))


def main():
    return report(check(sources()), can_fail())


if __name__ == "__main__":
    sys.exit(main())
