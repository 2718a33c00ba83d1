psql -f x.sql
