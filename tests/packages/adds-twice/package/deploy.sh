psql -X -q -v ON_ERROR_STOP=1 -c "update products set price = price + 1"
