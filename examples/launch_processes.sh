#!/bin/sh
# Three processes train the networks together. Each makes what the others have not begun, and each
# ends with all results. On several hosts, start it on each, with a folder that all of them see.
#
#     sh examples/launch_processes.sh [arguments of many_networks.py]

for process in 1 2 3; do
    "${PYTHON:-python}" "$(dirname "$0")/many_networks.py" "$@" &
done
wait
