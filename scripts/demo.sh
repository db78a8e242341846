#!/bin/sh
# Runs the examples, after installing what they need.
extras='examples'
. "$(dirname -- "$0")/environment.sh"
"$python" examples/sort_fruit.py
exec "$python" examples/read_digits.py
