env -u PGPASSWORD psql -X -h db -U site -c "select 1" || true
