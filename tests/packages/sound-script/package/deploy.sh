#!/bin/sh
set -eu
curl -fsS -o /dev/null --max-time 5 http://web/
test -r /package/notes.txt
