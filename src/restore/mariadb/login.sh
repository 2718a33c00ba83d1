# Lets a client log in as `$1` without being asked: its password is that of the service's own variables, or in the
# file that they name. It is never an argument, and never leaves the container.
user=$1
shift
value() {
    eval "plain=\${$1-} file=\${$1_FILE-}"
    if [ -n "$file" ]; then plain=$(cat "$file"); fi
    [ -n "$plain" ]
}
if [ "$user" = root ]; then
    names="MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD"
elif [ "$user" = "${MARIADB_USER-}" ] || [ "$user" = "${MYSQL_USER-}" ]; then
    names="MARIADB_PASSWORD MYSQL_PASSWORD"
else
    names=
fi
for name in $names; do
    if value "$name"; then
        export MYSQL_PWD="$plain"
        break
    fi
done
