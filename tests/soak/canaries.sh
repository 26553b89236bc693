#!/bin/bash
# An hour of the programs' time at debug level: does any log, counter or file name a user or a
# destination? And does the next session of an address hear what the last one's peers still send?
exec "$(dirname "$0")/../netns/exit.sh" hour reuse
