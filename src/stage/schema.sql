-- Every object of a schema, one JSON document a row. What belongs to an extension is the extension's.
with
ns as (
    select oid, case nspname when 'public' then '' else nspname || '.' end as prefix
    from pg_namespace
    where nspname not in ('pg_catalog', 'information_schema') and nspname !~ '^pg_(toast|temp)'
),
extended as (
    select classid, objid from pg_depend where deptype = 'e'
),
rel as (
    select c.oid, c.relkind, c.relpersistence, c.relrowsecurity, c.reloptions, ns.prefix || c.relname as name
    from pg_class c join ns on ns.oid = c.relnamespace
    where not exists (select from extended where classid = 'pg_class'::regclass and objid = c.oid)
),
tab as (select * from rel where relkind in ('r', 'p', 'f')),
object(kind, name, "table", columns, definition) as (
    select 'table', name, name, array[]::text[],
        concat_ws(' ', relkind, relpersistence, relrowsecurity::text, reloptions::text)
    from tab
    union all
    select case relkind when 'v' then 'view' else 'materialized view' end, name, null, array[]::text[],
        pg_get_viewdef(oid)
    from rel where relkind in ('v', 'm')
    union all
    select 'sequence', rel.name, tab.name, array_remove(array[a.attname::text], null),
        concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle)
    from rel
    join pg_sequence s on s.seqrelid = rel.oid
    left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = rel.oid and d.deptype in ('a', 'i')
        and d.refclassid = 'pg_class'::regclass
    left join tab on tab.oid = d.refobjid
    left join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where rel.relkind = 'S'
    union all
    select 'column', tab.name || '.' || a.attname, tab.name, array[a.attname::text],
        concat_ws(' ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
            'default ' || pg_get_expr(d.adbin, d.adrelid), 'identity ' || nullif(a.attidentity::text, ''),
            'generated ' || nullif(a.attgenerated::text, ''),
            'collate ' || (select collname from pg_collation where oid = a.attcollation and collname <> 'default'))
    from tab
    join pg_attribute a on a.attrelid = tab.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    union all
    select 'index', rel.name, tab.name,
        array(select attname::text from pg_attribute where attrelid = i.indrelid and attnum = any(i.indkey)),
        pg_get_indexdef(rel.oid)
    from rel
    join pg_index i on i.indexrelid = rel.oid
    join tab on tab.oid = i.indrelid
    where not exists (select from pg_constraint where conindid = rel.oid and contype in ('p', 'u', 'x'))
    union all
    select 'constraint', tab.name || '.' || con.conname, tab.name,
        array(select attname::text from pg_attribute where attrelid = con.conrelid and attnum = any(con.conkey)),
        pg_get_constraintdef(con.oid)
    from pg_constraint con join tab on tab.oid = con.conrelid
    union all
    select 'trigger', tab.name || '.' || t.tgname, tab.name, array[]::text[],
        pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
    from pg_trigger t join tab on tab.oid = t.tgrelid
    where not t.tgisinternal
    union all
    select 'function', ns.prefix || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', null,
        array[]::text[], case when p.prokind = 'a' then 'aggregate' else pg_get_functiondef(p.oid) end
    from pg_proc p join ns on ns.oid = p.pronamespace
    where not exists (select from extended where classid = 'pg_proc'::regclass and objid = p.oid)
    union all
    select 'type', ns.prefix || t.typname, null, array[]::text[],
        concat_ws(' ', t.typtype, format_type(nullif(t.typbasetype, 0), t.typtypmod),
            (select string_agg(enumlabel, ', ' order by enumsortorder) from pg_enum where enumtypid = t.oid))
    from pg_type t join ns on ns.oid = t.typnamespace
    where t.typtype in ('e', 'd', 'r')
        and not exists (select from extended where classid = 'pg_type'::regclass and objid = t.oid)
    union all
    select 'extension', extname, null, array[]::text[], extversion from pg_extension
)
select json_build_object('kind', kind, 'name', name, 'table', "table", 'columns', to_json(columns),
    'definition', coalesce(definition, ''))
from object
order by kind, name
