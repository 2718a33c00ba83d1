#!/bin/sh
curl -fsS -o /dev/null --max-time 5 http://web/
