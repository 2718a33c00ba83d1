"""The release that runs; `/api/version` tells it."""

VERSION = "2.3.0"
