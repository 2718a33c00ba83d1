#!/bin/sh
# "About us" has said "vavles" since 2019.
set -eu

changed=$(psql -X -A -t -q -v ON_ERROR_STOP=1 -c \
    "UPDATE pages SET body = replace(body, 'vavles', 'valves') WHERE slug = 'about' AND body LIKE '%vavles%' RETURNING slug")
test "$changed" = about || { echo "cannot correct \`about\`: it does not say \"vavles\"" >&2; exit 1; }

curl -fsS --max-time 5 http://web/pages/about | grep "pumps and valves"
