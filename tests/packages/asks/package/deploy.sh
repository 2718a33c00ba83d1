printf "Drop the old table? [y/N] "
read answer || true
echo
