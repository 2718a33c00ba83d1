#!/bin/sh
# Makes a cluster in an empty PGDATA, then becomes the command. What it knows of the official image's settings:
# POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS.
set -eu

if [ "${1-}" != postgres ]; then
    exec "$@"
fi

# A fresh volume belongs to root, and the server refuses root: hand the folder over and start again as postgres.
if [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$PGDATA"
    [ "$(stat -c %U "$PGDATA")" = postgres ] || chown -R postgres:postgres "$PGDATA"
    chmod 0700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    if [ -z "${POSTGRES_PASSWORD-}" ]; then
        echo "cannot make a cluster in $PGDATA: POSTGRES_PASSWORD is empty" >&2
        echo "help: set POSTGRES_PASSWORD in the service's environment" >&2
        exit 1
    fi
    secret=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
    # --no-sync: should the machine fail within these seconds, the volume is thrown away and made again.
    # shellcheck disable=SC2086 # several arguments on purpose
    initdb --no-sync --username="$user" --pwfile="$secret" --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host=trust ${POSTGRES_INITDB_ARGS-} >/dev/null
    rm -f "$secret"
    # As in the official image: programs in this container need no password, all others do.
    printf '%s\n' 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    if [ "$database" != postgres ]; then
        # On the socket only: nothing can mistake this server for the real one over TCP.
        pg_ctl start --silent --wait --options="-c listen_addresses='' -c fsync=off" >/dev/null
        psql -X -q -v ON_ERROR_STOP=1 -U "$user" -d postgres -v name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
        pg_ctl stop --silent --wait --mode=fast >/dev/null
    fi
fi

# The default listens on the loopback only.
shift
exec postgres -c listen_addresses='*' "$@"
