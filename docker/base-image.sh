#!/bin/sh
# Makes a Debian bookworm root filesystem as a tar archive, from Debian's own packages.
#
# For machines that can reach Debian's packages and no image registry. `rehearse` runs this by itself where
# debian:bookworm-slim can be neither found nor pulled, and imports the result as rehearse-base:bookworm.
# By hand:  docker/base-image.sh base.tar && docker import base.tar rehearse-base:bookworm
set -eu

suite=bookworm
packages=ca-certificates

say() { printf 'base-image: %s\n' "$*" >&2; }
fail() {
    printf 'base-image: cannot make the base image: %s\nhelp: %s\n' "$1" "$2" >&2
    exit 1
}

if [ $# -ne 1 ] || [ -z "$1" ]; then
    printf 'usage: %s OUT.tar\n' "$0" >&2
    exit 64
fi
case $1 in -*) printf 'usage: %s OUT.tar\n' "$0" >&2; exit 64 ;; esac
out=$1
folder=$(dirname -- "$out")
[ -d "$folder" ] || fail "the folder \`$folder\` does not exist" "make it, or name another file"
[ -w "$folder" ] || fail "the folder \`$folder\` cannot be written to" "name a file in a folder of yours"

tool() { command -v mmdebstrap || command -v debootstrap || true; }

if [ -z "$(tool)" ]; then
    command -v apt-get >/dev/null ||
        fail "neither mmdebstrap nor debootstrap is here, and this is not Debian" \
            "install one of them, or pull debian:bookworm-slim once where a registry answers and move it with docker save and docker load"
    [ "$(id -u)" -eq 0 ] ||
        fail "neither mmdebstrap nor debootstrap is here, and only root can install one" \
            "run \`sudo apt-get install mmdebstrap\`, or run this script as root"
    say "installing mmdebstrap"
    export DEBIAN_FRONTEND=noninteractive
    # A machine whose package lists are young enough needs no update; one that never had any does.
    apt-get install -y --no-install-recommends mmdebstrap >&2 || {
        apt-get update >&2 && apt-get install -y --no-install-recommends mmdebstrap >&2
    } || fail "apt-get could not install mmdebstrap" "see its messages above; \`apt-get update\` must work on this machine"
fi

# The archive is made beside its final place and renamed, so that no reader ever sees half of it.
work=$(mktemp -d -- "$folder/.base-image.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
partial=$work/base.tar

# What a container never reads, and fsync for a filesystem that is packed up at once, cost half the time.
dpkg_options="force-unsafe-io
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*"

say "fetching and unpacking Debian $suite (minbase, $packages); about half a minute"
case $(tool) in
*/mmdebstrap)
    set --
    while IFS= read -r line; do set -- "$@" "--dpkgopt=$line"; done <<END
$dpkg_options
END
    mmdebstrap --variant=minbase --include="$packages" --format=tar "$@" "$suite" "$partial" >&2 ||
        fail "mmdebstrap failed" "see its messages above; this machine must reach Debian's package mirrors"
    ;;
*/debootstrap)
    [ "$(id -u)" -eq 0 ] ||
        fail "debootstrap needs root" "run this script as root, or install mmdebstrap, which needs none"
    debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" >&2 ||
        fail "debootstrap failed" "see its messages above; this machine must reach Debian's package mirrors"
    printf '%s\n' "$dpkg_options" >"$work/root/etc/dpkg/dpkg.cfg.d/container"
    rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
    mkdir -p "$work/root/var/cache/apt/archives/partial" "$work/root/var/lib/apt/lists/partial"
    tar --numeric-owner --xattrs -C "$work/root" -cf "$partial" .
    ;;
esac

mv -f -- "$partial" "$out"
say "made $out ($(du -h -- "$out" | cut -f1))"
