#!/bin/sh
# Makes sure that a container engine answers on this machine: asks, installs docker.io where it is missing, starts
# dockerd where nothing answers, and asks again until it does. For Debian, as root; anywhere else it says what to do.
set -eu

patience=60
log=/var/log/dockerd.log

say() { printf 'start-engine: %s\n' "$*" >&2; }
fail() {
    printf 'start-engine: cannot start a container engine: %s\nhelp: %s\n' "$1" "$2" >&2
    exit 1
}
answers() { command -v docker >/dev/null && docker version --format '{{.Server.Version}}' 2>/dev/null; }

if version=$(answers); then
    say "engine $version answers"
    exit 0
fi
case ${DOCKER_HOST-} in
'' | unix:///var/run/docker.sock | unix:///run/docker.sock) ;;
*) fail "DOCKER_HOST is $DOCKER_HOST, and nothing answers there" \
    "start the engine there, or unset DOCKER_HOST to use one on this machine" ;;
esac
if command -v docker >/dev/null && [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
    fail "/var/run/docker.sock belongs to others" "run this as root, or join the group that owns the socket: \`sudo usermod -aG docker $(id -un)\`"
fi
[ "$(id -u)" -eq 0 ] || fail "no engine answers, and only root can start one" "run \`sudo $0\`"

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    command -v apt-get >/dev/null ||
        fail "no docker is installed, and this is not Debian" "install Docker Engine 20.10 or newer by this system's own means"
    say "installing docker.io"
    export DEBIAN_FRONTEND=noninteractive
    install_docker() {
        # Newer Debians ship the command-line client in a package of its own.
        client=$(apt-cache search --names-only '^docker-cli$' | cut -d' ' -f1)
        # shellcheck disable=SC2086 # nothing, where there is no such package
        apt-get install -y --no-install-recommends docker.io iptables $client >&2
    }
    install_docker || { apt-get update >&2 && install_docker; } ||
        fail "apt-get could not install docker.io" "see its messages above; \`apt-get update\` must work on this machine"
fi

# Installing may have started it already.
if ! answers >/dev/null; then
    if [ -d /run/systemd/system ]; then
        say "starting docker.service"
        systemctl start docker || fail "systemd could not start docker.service" "see \`journalctl -u docker\`"
        tell="journalctl -u docker"
    else
        say "starting dockerd; it logs to $log"
        setsid dockerd </dev/null >>"$log" 2>&1 &
        daemon=$!
        tell="tail $log"
    fi
fi

asked=0
until version=$(answers); do
    asked=$((asked + 1))
    if [ -n "${daemon-}" ] && ! kill -0 "$daemon" 2>/dev/null; then
        tail -n 5 "$log" >&2
        fail "dockerd ended" "its last lines are above; in a container it needs one that is privileged, or the socket of the engine outside"
    fi
    [ "$asked" -lt $((patience * 5)) ] ||
        fail "nothing answered within $patience s" "see \`${tell-docker version}\`"
    sleep 0.2
done
say "engine $version answers"
