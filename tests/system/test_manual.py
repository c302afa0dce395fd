# SPDX-License-Identifier: Apache-2.0
"""Manual pages and completions: they are well formed, and say what the programs say of themselves."""

import json
import os
import re
import subprocess

import pytest

import harness

PAGES = {page: harness.BUILD / "man" / page for page in ("alloyd.8", "alloyctl.1", "alloy.ini.5")}
COMPLETIONS = {"alloyd.bash": harness.BUILD, "alloyd.zsh": harness.BUILD,
               "alloyctl.bash": harness.ROOT, "alloyctl.zsh": harness.ROOT}
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][a-z-]*(?![\w-])")


def text_of(page):
    run = subprocess.run(["man", "-l", "--nh", "--nj", "--warnings", "-E", "UTF-8", PAGES[page]], capture_output=True, check=True,
                         env=dict(os.environ, MANWIDTH="200", MAN_KEEP_FORMATTING="", LC_ALL="C.UTF-8", MANPAGER="cat"))
    assert run.stderr == b"", run.stderr.decode()
    return re.sub(r".\x08", "", run.stdout.decode())


def help_of(program, *words):
    run = subprocess.run([harness.BUILD / program, *words, "--help"], capture_output=True, check=True, text=True)
    assert run.stderr == ""
    return run.stdout


def commands():
    """The commands of alloyctl, as its help has them."""
    found = re.findall(r"^  ([a-z](?:[a-z-]| [a-z])*)(?:  .*)?$", help_of("alloyctl").partition("Commands:")[2], re.M)
    assert len(found) >= 8
    return sorted(found)


def scripts():
    """Every program of the tree that somebody calls by hand."""
    listed = subprocess.run(["git", "ls-files", "--stage", "scripts", "bench", "tests"], cwd=harness.ROOT, capture_output=True,
                            check=True, text=True).stdout
    return [line.split()[-1] for line in listed.splitlines() if line.startswith("100755")]


@pytest.mark.parametrize("script", scripts())
def test_a_script_tells_what_it_does_and_does_not_do_it(script):
    told = subprocess.run([harness.ROOT / script, "--help"], capture_output=True, text=True, timeout=harness.DEADLINE, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert len(told.stdout.splitlines()) > 1 and "==>" not in told.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_well_formed_and_found_by_apropos(page):
    text = text_of(page)
    assert re.search(rf"^NAME\n +{re.escape(page.rsplit('.', 1)[0])} - \w", text, re.M)
    for heading in ("DESCRIPTION", "SEE ALSO"):
        assert re.search(rf"^{heading}$", text, re.M)


def test_alloyd_8_names_every_option_and_no_other():
    assert set(OPTION.findall(help_of("alloyd"))) == set(OPTION.findall(text_of("alloyd.8").partition("OPTIONS\n")[2].partition("SIGNALS")[0]))


def test_alloyd_8_names_every_signal_and_no_other():
    told = re.findall(r"^  ([A-Z][A-Z0-9, ]*[A-Z0-9])  ", help_of("alloyd").partition("Signals:")[2], re.M)
    page = text_of("alloyd.8").partition("\nSIGNALS\n")[2].partition("\nEXIT STATUS")[0]
    assert len(told) >= 2 and re.findall(r"^ {7}([A-Z].*)$", page, re.M) == told


def sections_of_alloyctl_1():
    """{command: text} of the page."""
    body = text_of("alloyctl.1").partition("\nCOMMANDS\n")[2].partition("\nOPTIONS\n")[0]
    parts = re.split(r"^   alloyctl ([a-z](?:[a-z-]| [a-z])*)(?: [A-Z\[].*)?$", body, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def test_alloyctl_1_has_every_command_with_its_words_and_options():
    sections = sections_of_alloyctl_1()
    assert sorted(sections) == commands()
    for command, text in sections.items():
        told = help_of("alloyctl", *command.split())
        assert set(OPTION.findall(text)) == set(OPTION.findall(told)), command
        said = re.sub(r"\s+", " ", told.partition("\n")[2].replace("Options:", "")).split()
        assert sorted(re.sub(r"\s+", " ", text).split()) == sorted(said), command


def keys():
    schema = json.loads(subprocess.run([harness.BUILD / "alloyd", "--config-schema"], capture_output=True,
                                       check=True).stdout)
    stream = next(iter(schema["patternProperties"].values()))
    return {section: sorted(part["properties"])
            for section, part in {**schema["properties"], "stream.NAME": stream}.items() if section != "include"}


def test_alloy_ini_5_has_every_key_under_its_section():
    body = text_of("alloy.ini.5").partition("\nKEYS\n")[2].partition("\nFILES\n")[0]
    parts = re.split(r"^   \[(\S+)\]$", body, flags=re.M)
    found = {section: sorted(set(re.findall(r"^ {7}([a-z]\w*)(?: =.*)?$", text, re.M)))
             for section, text in zip(parts[1::2], parts[2::2])}
    assert found == keys()


# ---- completions


def completion(name):
    return COMPLETIONS[name] / "completions" / name


def bash(line):
    """What bash offers for the line, as readline would ask."""
    words = [word for word in re.split(r"(=)|\s+", line) if word]
    if line[-1] in " =":
        words.append("")
    script = f"""
        shopt -s extglob
        source {completion(words[0] + '.bash')}
        COMP_LINE={subprocess.list2cmdline([line])!r} COMP_POINT={len(line)}
        COMP_WORDS=({' '.join(repr(word) for word in words)})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        function=$(complete -p {words[0]} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {words[0]} "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
        [ ${{#COMPREPLY[@]}} = 0 ] || printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    run = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, check=True, text=True,
                         env=dict(os.environ, PATH=f"{harness.BUILD}:{os.environ['PATH']}"), cwd=harness.ROOT)
    assert run.stderr == "", run.stderr
    return sorted(set(run.stdout.split()))


def zsh(line):
    words = line.split(" ")
    script = f"""
        _files() {{ print _files; }}
        compset() {{ PREFIX=${{PREFIX##*=}}; }}
        compadd() {{
            local each
            while [[ $1 != -- ]]; do shift; done
            shift
            for each; do [[ $each == "$PREFIX"* ]] && print -r -- $each; done
        }}
        words=({' '.join(repr(word) for word in words)}) CURRENT={len(words)} PREFIX={words[-1]!r}
        complete_now() {{ emulate -L zsh; setopt extendedglob; source {completion(words[0] + '.zsh')}; }}
        complete_now
        true
    """
    run = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, check=True, text=True, cwd=harness.ROOT,
                         env=dict(os.environ, PATH=f"{harness.BUILD}:{os.environ['PATH']}"))
    assert run.stderr == "", run.stderr
    return sorted(set(run.stdout.split()))


@pytest.mark.parametrize("shell", [bash, zsh])
def test_alloyd_is_completed(shell):
    assert shell("alloyd --ch") == ["--check"]
    assert set(shell("alloyd -")) == set(OPTION.findall(help_of("alloyd")))
    values = shell("alloyd --set log.level=")
    assert [value.rpartition("=")[2] for value in values] == ["debug", "error", "info", "warn"]
    assert [value.rpartition("=")[2] for value in shell("alloyd -o log.level=w")] == ["warn"]
    assert [key.rstrip("=") for key in shell("alloyd -c x.ini -o drain.")] == ["drain." + key for key in keys()["drain"]]
    assert "server.listen" in [key.rstrip("=") for key in shell("alloyd --set ser")]
    assert [key.rstrip("=") for key in shell("alloyd --set stream.web.pa")] == ["stream.web.partial", "stream.web.path"]
    assert [value.rpartition("=")[2] for value in shell("alloyd --set stream.web.partial=o")] == ["off", "on"]


def test_every_key_is_completed():
    everything = {f"{section}.{key}=" for section, names in keys().items() for key in names}
    assert set(bash("alloyd --set ")) == everything


def test_files_are_completed():
    assert bash("alloyd --config config/alloy.i") == ["config/alloy.ini"]
    assert bash("alloyd --config=config/alloy.i") == ["config/alloy.ini"]
    assert bash("alloyctl key list --file config/schema") == ["config/schema.sql"]
    assert bash("alloyctl journal inspect conf") == ["config"]
    assert zsh("alloyd --config config/alloy.i") == ["_files"]


@pytest.mark.parametrize("shell", [bash, zsh])
def test_every_command_of_alloyctl_is_completed(shell):
    nouns = {command.split()[0] for command in commands()}
    assert set(shell("alloyctl ")) == nouns
    assert shell("alloyctl dead") == ["dead-letter"]
    for noun in nouns:
        verbs = {command.split()[1] for command in commands() if command.split()[0] == noun and " " in command}
        if verbs:
            assert set(shell(f"alloyctl {noun} ")) == verbs


@pytest.mark.parametrize("shell", [bash, zsh])
def test_options_of_a_command_are_completed(shell):
    for command in commands():
        told = re.findall(r"^  (?:-., )?(--[a-z-]+)", help_of("alloyctl", *command.split()), re.M)
        assert set(shell(f"alloyctl {command} --")) == set(told)
    assert shell("alloyctl dead-letter show --si") == ["--since"]


def test_zsh_takes_the_files_for_what_they_are():
    """The first line names the program, and nothing is wrong with the rest."""
    for name in ("alloyd.zsh", "alloyctl.zsh"):
        assert completion(name).read_text().startswith(f"#compdef {name[:-4]}\n")
        subprocess.run(["zsh", "-n", completion(name)], check=True, capture_output=True)
