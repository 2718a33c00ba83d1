#!/bin/sh
# Makes the sample's prod-like data and backs it up as production would: pg_dump for the database, tar for the
# uploads. Runs as root inside a container of the sample's db image, beside schema.sql and data.sql:
#
#   make-backup.sh OUT      writes OUT/site.dump and OUT/uploads.tar.zst
#
# SITE_AS_OF (a date and time, default now) is when the newest order was placed; with it given, the same rows and
# files come out each time.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 OUT" >&2; exit 64; }
[ "$(id -u)" -eq 0 ] || { echo "cannot make the backup: uploads have several owners, which takes root" >&2; exit 1; }
out=$1
here=$(cd -- "$(dirname -- "$0")" && pwd)
as_of=${SITE_AS_OF:-$(date -u +%Y-%m-%dT%H:%M:00Z)}
work=$(mktemp -d)
chmod 0711 "$work"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
stop() { [ ! -f "$work/data/postmaster.pid" ] || as_postgres pg_ctl stop -D "$work/data" -s -m immediate || true; }
trap 'stop; rm -rf -- "$work"' EXIT
trap 'exit 143' INT TERM
mkdir -p "$out"

echo "uploads"
uploads=$work/uploads
papers=$uploads/papers
mkdir -p "$papers" "$uploads/archive/2019"
# One process writes the papers, each a few kilobytes of its own text.
awk -v folder="$papers" 'BEGIN {
    for (n = 1; n <= 320; n++) {
        file = sprintf("%s/%05d-paper.txt", folder, n)
        for (line = 1; line <= 40 + n % 90; line++)
            printf "White paper %d, line %d: what we learned about pumps, valves and seals.\n", n, line > file
        close(file)
    }
}'
# The rows are made from what lies there: database and uploads belong together in a backup, too.
(cd "$papers" && sha256sum -- *.txt) >"$work/sums"
(cd "$papers" && stat -c '%n %s' -- *.txt) >"$work/sizes"
awk 'NR == FNR { size[$1] = $2; next } { printf "%d\tpapers/%s\t%d\t%s\n", ++n, $2, size[$2], $1 }' \
    "$work/sizes" "$work/sums" >"$work/uploaded"

# What years of real uploads leave behind: owners of former servers, names nobody planned for, a link.
printf 'quarterly figures\n' >"$uploads/archive/2019/Bericht für Müller (final) [2].txt"
printf 'catalogue\n' >"$uploads/archive/2019/カタログ.txt"
printf 'starts with a dash\n' >"$uploads/archive/2019/-draft.txt"
printf "quotes\n" >"$uploads/archive/2019/it's \"new\".txt"
: >"$uploads/archive/empty.txt"
ln -s 2019/カタログ.txt "$uploads/archive/current"
chown -R 1001:1001 "$uploads"
chown -R 33:33 "$uploads/archive/2019"
chown 65534:65534 "$uploads/archive/empty.txt"
chown 2000:100 "$papers/00007-paper.txt" "$papers/00008-paper.txt"
find "$uploads" -type d -exec chmod 0755 {} +
find "$uploads" -type f -exec chmod 0644 {} +
chmod 0640 "$papers/00001-paper.txt"
chmod 0444 "$uploads/archive/empty.txt"
find "$uploads" -exec touch -h -d "$as_of" {} +

echo "database"
install -d -o postgres -m 0700 "$work/data" "$work/socket"
as_postgres initdb --no-sync -D "$work/data" -U site --encoding=UTF8 --locale=C.UTF-8 --auth=trust >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
as_postgres pg_ctl start -D "$work/data" -s -w -l "$work/data/server.log" -o \
    "-c listen_addresses='' -c unix_socket_directories='$work/socket' -c fsync=off -c wal_level=minimal -c max_wal_senders=0" ||
    { cat "$work/data/server.log" >&2; exit 1; }
export PGHOST="$work/socket" PGUSER=site
sql() { as_postgres psql -X -q -v ON_ERROR_STOP=1 "$@"; }
sql -d postgres -c 'CREATE DATABASE site'
sql -d site -1 -f - <"$here/schema.sql"
# psql reads `pstdin` while it reads the script itself from a file.
cp "$here/data.sql" "$work/data.sql"
chmod 0644 "$work/data.sql"
sql -d site -1 -v as_of="$as_of" -f "$work/data.sql" <"$work/uploaded"

echo "backup"
as_postgres pg_dump -Fc -d site >"$out/site.dump.part"
as_postgres pg_ctl stop -D "$work/data" -s -m fast
tar --numeric-owner --sort=name -C "$uploads" --zstd -cf "$out/uploads.tar.zst.part" .
mv "$out/site.dump.part" "$out/site.dump"
mv "$out/uploads.tar.zst.part" "$out/uploads.tar.zst"
ls -l "$out"
