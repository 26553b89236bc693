#!/usr/bin/env python3
"""The commands of the guides, for docs.sh.

    docs_tool.py blocks FILE... --out DIR [--set WORD=VALUE...]

Writes each block "```sh MACHINE [exit=N] [for=SECONDS]" of the files to DIR/NNN.sh and prints a line for it:
NNN FILE:LINE MACHINE EXIT SECONDS. Words of the text that stand for the reader's own (addresses, the link) are
replaced. A block of shell commands that names no machine, or a word that no text has, is an error: every command
of a guide is run.

    docs_tool.py messages FILE... --source DIR

Whether a program says what the first column of each table "it says" quotes; "..." stands for what differs.
"""
import argparse
import glob
import os
import re
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


def messages(paths, source):
    """Says which quoted messages no program has; returns how many there are."""
    texts = []
    for path in glob.glob(os.path.join(source, "**", "*.c"), recursive=True):
        with open(path, encoding="utf-8") as file:
            texts.append(re.sub(r'"\s*"', "", file.read())) # literals that are one
    quoted = missing = 0
    for path in paths:
        is_table = False
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                is_table = line.startswith("| it says |") or is_table and line.startswith("|")
                found = re.match(r"\| `([^`]+)`", line) if is_table else None
                if not found:
                    continue
                quoted += 1
                parts = [part.strip() for part in found.group(1).split("...") if part.strip()]
                if not all(any(part in text for text in texts) for part in parts):
                    print(f"{os.path.basename(path)}:{number}: no program says '{found.group(1)}'")
                    missing += 1
    print(f"{quoted} messages")
    return missing if quoted else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["blocks", "messages"])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--source")
    parser.add_argument("--out")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    if args.verb == "messages":
        sys.exit(messages(args.files, args.source) > 0)
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
