psql -X -q -v ON_ERROR_STOP=1 -c "delete from order_lines where order_id = 4711" -c "delete from orders where id = 4711"
