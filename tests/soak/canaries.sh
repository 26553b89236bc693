#!/bin/bash
# An hour of the programs' time at debug level: does any log, counter or file name a user or a
# destination?
exec "$(dirname "$0")/../netns/exit.sh" hour
