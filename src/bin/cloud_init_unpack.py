#!/usr/bin/python3
"""Unpack cloud-init user-data as cloud-init would: cloud_init_unpack.py FILE DIRECTORY.

Writes the files below DIRECTORY with their modes and prints the run command's arguments, one JSON
list a line. What cloud-init would not take is an error.
"""
import base64
import json
import os
import sys

import yaml


def main():
    with open(sys.argv[1], encoding="utf-8") as source:
        text = source.read()
    if not text.startswith("#cloud-config\n"):
        sys.exit("the first line is not #cloud-config")
    data = yaml.safe_load(text)
    unknown = set(data) - {"package_update", "packages", "write_files", "runcmd"}
    if unknown:
        sys.exit("unknown keys: %s" % unknown)
    for entry in data["write_files"]:
        if set(entry) != {"path", "permissions", "encoding", "content"} or entry["encoding"] != "b64":
            sys.exit("unexpected entry: %s" % entry)
        if not isinstance(entry["permissions"], str):
            sys.exit("permissions must be a string: 0644 as a number is 420")
        path = sys.argv[2] + entry["path"]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(base64.b64decode(entry["content"], validate=True))
        os.chmod(path, int(entry["permissions"], 8))
    for command in data["runcmd"]:
        if not all(isinstance(word, str) for word in command):
            sys.exit("not a list of texts: %s" % command)
        print(json.dumps(command))


main()
