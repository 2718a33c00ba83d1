psql -X -q -v ON_ERROR_STOP=1 -c "update pages set title = 'New' where slug = 'about'"
