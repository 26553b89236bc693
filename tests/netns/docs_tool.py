#!/usr/bin/env python3
"""The commands of the guides, for docs.sh.

    docs_tool.py blocks FILE... --out DIR [--set WORD=VALUE...]

Writes each block "```sh MACHINE [exit=N] [for=SECONDS]" of the files to DIR/NNN.sh and prints a line for it:
NNN FILE:LINE MACHINE EXIT SECONDS. Words of the text that stand for the reader's own (addresses, the link) are
replaced. A block of shell commands that names no machine, or a word that no text has, is an error: every command
of a guide is run.
"""
import argparse
import os
import sys


def blocks(path):
    """(line, info words, text) of each fenced block that is shell."""
    found, info, start, text = [], None, 0, []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if info is None and line.startswith("```"):
                info, start, text = line[3:].split(), number, []
            elif info is not None and line.startswith("```"):
                if info and info[0] == "sh":
                    found.append((start, info[1:], "".join(text)))
                info = None
            elif info is not None:
                text.append(line)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["blocks"])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    words = [word.split("=", 1) for word in args.set]
    used = set()
    count = 0
    for path in args.files:
        for line, info, text in blocks(path):
            where = f"{os.path.basename(path)}:{line}"
            if not info:
                sys.exit(f"{where}: a block of commands that says no machine on which the test runs it")
            settings = dict(word.split("=", 1) for word in info[1:])
            for word, value in words:
                if word in text:
                    used.add(word)
                    text = text.replace(word, value)
            with open(os.path.join(args.out, f"{count:03}.sh"), "w", encoding="utf-8") as file:
                file.write(text)
            print(f"{count:03}", where, info[0], settings.pop("exit", "0"), settings.pop("for", "0"))
            if settings:
                sys.exit(f"{where}: unknown setting {', '.join(settings)}")
            count += 1
    for word, _ in words:
        if word not in used:
            sys.exit(f"no guide says '{word}' any more")
    if count == 0:
        sys.exit("no commands at all")


main()
