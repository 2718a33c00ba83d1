#!/bin/sh
# What the entrypoint of the official image does, as far as a restore depends on it.
set -eu

# The value of a variable, or what is in the file that its `_FILE` names.
value() {
    eval "plain=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$file" ]; then cat "$file"; else printf %s "$plain"; fi
}

if [ "$1" != mariadbd ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
    install -d -o mysql -g mysql /run/mysqld
    find /var/lib/mysql \! -user mysql -exec chown mysql:mysql {} +
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
fi
if [ ! -d /var/lib/mysql/mysql ]; then
    root=$(value MARIADB_ROOT_PASSWORD)
    [ -n "$root" ] || root=$(value MYSQL_ROOT_PASSWORD)
    if [ -z "$root" ]; then
        echo "entrypoint: MARIADB_ROOT_PASSWORD is not set" >&2
        exit 1
    fi
    database=$(value MARIADB_DATABASE)
    user=$(value MARIADB_USER)
    password=$(value MARIADB_PASSWORD)
    mariadb-install-db --datadir=/var/lib/mysql --skip-test-db --auth-root-authentication-method=normal >/dev/null
    # Without a port: nobody takes it for the server that is to come.
    mariadbd --skip-networking --socket=/run/mysqld/first.sock &
    first=$!
    # It has no password yet.
    unset MYSQL_PWD
    ask() { mariadb --socket=/run/mysqld/first.sock -u root "$@"; }
    until ask -e 'select 1' >/dev/null 2>&1; do
        kill -0 "$first"
        sleep 0.1
    done
    {
        if [ -n "$database" ]; then echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"; fi
        if [ -n "$user" ]; then
            echo "CREATE USER '$user'@'%' IDENTIFIED BY '$password';"
            if [ -n "$database" ]; then echo "GRANT ALL ON \`$database\`.* TO '$user'@'%';"; fi
        fi
        echo "CREATE USER 'root'@'%' IDENTIFIED BY '$root';"
        echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$root';"
    } | ask
    kill -TERM "$first"
    wait "$first"
fi
exec "$@"
