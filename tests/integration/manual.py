"""The manual pages and the completion against what the programs say of themselves.

fluxbridge.conf(5) is compared with the code by tests/unit/test_manual.c.
"""

import os
import re
import shutil
import subprocess
import unittest

import flux
from tools import Terminal

PAGES = ("fluxbridge.1", "fluxbridge-sim.1", "fluxbridge.conf.5")
OPTION = re.compile(r"^ +(?:(-\w), )? *(--[\w-]+)", re.M)


def path_of(*parts):
    return os.path.join(flux.source_dir(), "packaging", *parts)


def page(name):
    with open(path_of("man", name)) as file:
        return file.read()


def plain(roff):
    """Without fonts and escapes."""
    return re.sub(r"\\f.|\\[|~]|\\", lambda m: " " if m.group() == "\\~" else "", roff)


def section(text, name):
    return text.split(".SH %s\n" % name)[1].split("\n.SH ")[0] + "\n"


def options_of(text):
    """All options of a help text, long and short."""
    return {option for pair in OPTION.findall(text) for option in pair if option}


class Test(flux.Test):
    def help(self, *arguments, program="fluxbridge"):
        done = subprocess.run([flux.program(program), *arguments, "--help"],
                              capture_output=True, text=True, timeout=flux.DEADLINE_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def commands(self):
        return re.findall(r"^  (\w+) ", self.help().split("Commands:")[1].split("Options:")[0],
                          re.M)


class Manual(Test):
    def test_commands(self):
        text = page("fluxbridge.1")
        commands = self.commands()
        self.assertEqual(len(commands), 8)
        self.assertEqual(re.findall(r"^\.SS (\w+)$", section(text, "COMMANDS"), re.M), commands)
        self.assertEqual(re.findall(r'^\.SY "fluxbridge (\w+)"$', section(text, "SYNOPSIS"), re.M),
                         commands)

    def test_options(self):
        """Each option stands there once, with the commands that take it."""
        described = {}
        for tag, first in re.findall(r"^\.TP\n\.BR? (.*)\n(.*)\n",
                                     section(page("fluxbridge.1"), "OPTIONS"), re.M):
            short, long = re.match(r"(-\w) , +(--[\w-]+)", plain(tag)).groups()
            of = re.match(r"\.BR (\w+(?: ,\\~ \w+)*) :", first)
            described[short, long] = of.group(1).split(" ,\\~ ") if of else None
        everywhere = {"-h", "--help", "-V", "--version", "-c", "--config"}
        self.assertLessEqual(everywhere, {o for pair in described for o in pair})
        for command in self.commands():
            known = options_of(self.help(command))
            self.assertLessEqual(known, {o for pair in described for o in pair})
            for pair, of in described.items():
                if of is not None:
                    self.assertEqual(set(pair) <= known, command in of, (pair, command))

    def test_synopsis(self):
        """The short options of each command, and no others."""
        for line in section(page("fluxbridge.1"), "SYNOPSIS").split(".SY ")[1:]:
            command = re.match(r'"fluxbridge (\w+)"', line).group(1)
            text = plain(line.partition("\n")[2])
            short = {"-" + letter for letters in re.findall(r"(?<![\w-])-(\w+)", text)
                     for letter in letters}
            known = {o for o in options_of(self.help(command)) if len(o) == 2}
            self.assertEqual(short, known - {"-h", "-V"}, command)

    def test_simulator(self):
        text = plain(section(page("fluxbridge-sim.1"), "OPTIONS"))
        self.assertEqual(set(re.findall(r"(?<![\w-])--?[A-Za-z]+", text)),
                         options_of(self.help(program="fluxbridge-sim")))

    def test_the_example_is_a_configuration(self):
        example = section(page("fluxbridge.conf.5"), "EXAMPLE")
        path = os.path.join(self.directory, "example.cfg")
        with open(path, "w") as file:
            text = plain(example.split(".nf\n")[1].split(".fi\n")[0])
            file.write(text.replace("/var/lib/fluxbridge", self.directory).replace(
                "/dev/ttyUSB0", "/dev/null"))
        self.assertEqual(self.run_tool("check", "-c", path),
                         (0, path + ": good: 2 devices on 2 links\n", ""))

    @unittest.skipUnless(shutil.which("groff"), "groff is not there")
    def test_pages_are_good_roff(self):
        for name in PAGES:
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", path_of("man", name)],
                                  capture_output=True, text=True, timeout=flux.DEADLINE_S,
                                  check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertGreater(len(done.stdout), 500)


class Completion(Test):
    def complete(self, *words, file="fluxbridge.bash"):
        """What is offered for the last of the words."""
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fluxbridge; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script, "bash", path_of("completion", file), *words],
                              capture_output=True, text=True, timeout=flux.DEADLINE_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def complete_zsh(self, *words):
        """The words offered in zsh, whose completion system is played: it wants a terminal."""
        script = """
            offer() { local s; for s in "$@"; do
                [[ $s == *:_fluxbridge_names ]] && _fluxbridge_names
                s=${s#\\(*\\)}; s=${s#\\*}; print -r -- "${s%%[\\[:]*}"; done }
            _arguments() { offer "$@" }
            _describe() { offer ${(P)2} }
            compadd() { print -rl -- ${(P)2} }
            file=$1; shift; words=("$@"); CURRENT=$#
            source $file"""
        done = subprocess.run(["zsh", "-f", "-c", script, "zsh", path_of("completion", "_fluxbridge"),
                               *words], capture_output=True, text=True, timeout=flux.DEADLINE_S,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def complete_fish(self, *words):
        line = " ".join(words)
        script = "".join("source %s; " % path_of("completion", name + ".fish")
                         for name in ("fluxbridge", "fluxbridge-sim"))
        done = subprocess.run(["fish", "--no-config", "-c", script + "complete -C '%s'" % line],
                              env=dict(os.environ, HOME=self.directory,
                                       XDG_DATA_HOME=self.directory),
                              capture_output=True, text=True, timeout=flux.DEADLINE_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [line.split("\t")[0] for line in done.stdout.splitlines()]

    def fish_options(self, *words):
        return set(self.complete_fish(*words, "-")) | set(self.complete_fish(*words, "--"))

    def typed(self, shell, setup, *lines):
        """Lines typed into a shell that has loaded the completion by itself, each up to a Tab,
        and what is to be seen then."""
        terminal = Terminal()
        program = subprocess.Popen(
            shell, stdin=terminal.theirs, stdout=terminal.theirs, stderr=terminal.theirs,
            cwd=self.directory, start_new_session=True,
            env={**os.environ, "HOME": self.directory, "TERM": "dumb", "PS1": "$ "})
        os.write(terminal.ours, (setup + "; echo re''ady\n").encode())
        terminal.wait("ready")
        for line, seen in lines:
            os.write(terminal.ours, line.encode() + b"\t")
            terminal.wait(seen)
            os.write(terminal.ours, b"\x15")
        os.write(terminal.ours, b"exit\n")
        program.wait(flux.DEADLINE_S)
        terminal.close()

    def test_typed(self):
        with open(os.path.join(self.directory, "site.cfg"), "w") as file:
            file.write('devices: { bess = ( { name = "East-Battery"; } ); };\n')
        lines = (("fluxbridge forg", "fluxbridge forget "),
                 ("fluxbridge read -c site.cfg Ea", "-c site.cfg East-Battery"),
                 ("fluxbridge check --onl", "fluxbridge check --online"),
                 ("fluxbridge-sim --li", "fluxbridge-sim --listen"))
        where = path_of("completion")
        self.typed(["bash", "--norc", "--noprofile", "-i"],
                   "source %s/fluxbridge.bash" % where, *lines)
        self.typed(["zsh", "-f", "-i"],
                   "fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D" % where, *lines)

    def test_zsh(self):
        self.assertEqual(self.complete_zsh("fluxbridge", ""), self.commands())
        self.assertEqual(set(self.complete_zsh("fluxbridge", "-")), options_of(self.help()))
        for command in self.commands():
            offered = {word for word in self.complete_zsh("fluxbridge", command, "-")
                       if word.startswith("-")}
            self.assertEqual(offered, options_of(self.help(command)), command)
        self.assertEqual(set(self.complete_zsh("fluxbridge-sim", "-")),
                         options_of(self.help(program="fluxbridge-sim")))

    def test_fish(self):
        self.assertEqual(set(self.complete_fish("fluxbridge", "")), set(self.commands()))
        self.assertEqual(self.fish_options("fluxbridge"), options_of(self.help()))
        for command in self.commands():
            self.assertEqual(self.fish_options("fluxbridge", command),
                             options_of(self.help(command)), command)
        self.assertEqual(self.fish_options("fluxbridge-sim"),
                         options_of(self.help(program="fluxbridge-sim")))

    def test_names_in_every_shell(self):
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write('devices: { bess = ( { name = "B-1"; }, { name="B-2"; } ); };\n')
        for complete in (self.complete, self.complete_zsh, self.complete_fish):
            self.assertLessEqual({"B-1", "B-2"},
                                 set(complete("fluxbridge", "read", "-c", path, "B")))

    def test_commands(self):
        self.assertEqual(self.complete("fluxbridge", ""), self.commands())
        self.assertEqual(self.complete("fluxbridge", "r"), ["run", "read"])
        self.assertEqual(set(self.complete("fluxbridge", "-")), options_of(self.help()))

    def test_options(self):
        for command in self.commands():
            self.assertEqual(set(self.complete("fluxbridge", command, "-")),
                             options_of(self.help(command)), command)

    def test_simulator(self):
        for file in ("fluxbridge.bash", "fluxbridge-sim.bash"):
            self.assertEqual(set(self.complete("fluxbridge-sim", "-", file=file)),
                             options_of(self.help(program="fluxbridge-sim")))

    def test_files_and_names(self):
        path = os.path.join(self.directory, "site.cfg")
        with open(path, "w") as file:
            file.write('devices: { bess = ( { id = "x"; name = "B-1"; },\n'
                       '  { type = "powerpack";\n    name="B-2"; } ); };\n')
        self.assertEqual(self.complete("fluxbridge", "read", "-c", path[:-3]), [path])
        self.assertEqual(self.complete("fluxbridge", "check", "--against", path[:-3]), [path])
        self.assertEqual(self.complete("fluxbridge", "scan", "--parity", "e"), ["even"])
        self.assertEqual(self.complete("fluxbridge", "read", "-c", path, "B"), ["B-1", "B-2"])
        self.assertEqual(self.complete("fluxbridge-sim", "-c", path, "--only", ""), ["B-1", "B-2"])

    def test_types(self):
        os.environ["FLUXBRIDGE_PROFILES"] = os.path.join(flux.source_dir(), "devices", "profiles")
        self.addCleanup(os.environ.pop, "FLUXBRIDGE_PROFILES")
        self.assertLessEqual({"acuvim2", "acuvim2-vendor"},
                             set(self.complete("fluxbridge", "points", "acu")))


if __name__ == "__main__":
    flux.main()
