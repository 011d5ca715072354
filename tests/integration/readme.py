"""README.md against reality: its configuration is valid, its commands exist."""

import os
import re

import flux


class Readme(flux.Test):
    def setUp(self):
        super().setUp()
        with open(os.path.join(flux.source_dir(), "README.md"), encoding="utf-8") as file:
            self.page = file.read()

    def test_configuration(self):
        (text,) = re.findall(r"^```\n(site = .*?)^```$", self.page, re.M | re.S)
        audit = os.path.join(self.directory, "audit.jsonl")
        path = os.path.join(self.directory, "readme.cfg")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("/var/lib/fluxbridge/audit.jsonl", audit).replace(
                "/dev/ttyUSB0", "/dev/null"))
        code, out, err = self.run_tool("check", "-c", path)
        self.assertEqual(code, 0, out + err)

    def test_commands(self):
        named = set(re.findall(r"^    fluxbridge (\w+)", self.page, re.M))
        code, out, _ = self.run_tool("--help")
        self.assertEqual(code, 0)
        commands = out.split("Commands:\n")[1].split("\n\n")[0]
        self.assertEqual(named, set(re.findall(r"^  (\w+)", commands, re.M)))

    def test_files(self):
        """Every file that the page links to or names is there."""
        for path in re.findall(r"\]\(([^)]+)\)|^    ((?:tests|packaging)/\S+)", self.page, re.M):
            path = (path[0] or path[1]).partition("#")[0]
            self.assertTrue(os.path.exists(os.path.join(flux.source_dir(), path)), path)


if __name__ == "__main__":
    flux.main()
