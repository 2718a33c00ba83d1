"""The release that runs; `/api/version` tells it."""

VERSION = "2.4.0"
