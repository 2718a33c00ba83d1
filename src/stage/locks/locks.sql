select json_build_object('at', extract(epoch from clock_timestamp()), 'held', coalesce(json_agg(json_build_array(case n.nspname when 'public' then c.relname::text else n.nspname || '.' || c.relname end, left(l.mode, -4))) filter (where c.oid is not null), '[]'))
from (select relation, mode from pg_locks where locktype = 'relation' and granted and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database()) and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) l
left join pg_class c on c.oid = l.relation and c.relkind in ('r', 'p', 'm')
left join pg_namespace n on n.oid = c.relnamespace
where n.nspname is null or n.nspname !~ '^pg_' and n.nspname <> 'information_schema';
