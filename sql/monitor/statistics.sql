-- What `plans --statistics FILE` reads: the planner's statistics of a database, as one JSON document.
--
--     psql -XAtq -v tenant=user_id -v counted=tasks -f sql/monitor/statistics.sql > statistics.json
--
-- `counted` is the table whose rows `--rows` counts. The document holds counts, shares and widths. A
-- value of a row is in it only where the schema itself names it, in a check constraint or a generated
-- column, and true and false. Of tenants with many rows it tells how many there are and what share
-- one has. Run it after ANALYZE, as an owner of the tables whom row security does not bind.
with tables as (
    select oid, relname, reltuples, relpages
    from pg_class
    where
        relnamespace = 'public'::regnamespace
        and relkind = 'r'
        and reltuples >= 0
        and relname !~ '^(_yoyo|yoyo_lock|migration_history)'
),

-- What the schema says of each column, and whether that makes its value.
named as (
    select conrelid as oid, n as attnum, pg_get_constraintdef(oid) as words, false as generates
    from pg_constraint
    cross join unnest(conkey) as n
    where contype = 'c'
    union all
    select adrelid, adnum, pg_get_expr(adbin, adrelid), true
    from pg_attrdef
    join pg_attribute on attrelid = adrelid and attnum = adnum and attgenerated <> ''
),

named_values as (
    select t.oid, a.attnum, common.value, common.share
    from tables as t
    join pg_attribute as a on a.attrelid = t.oid and a.attnum > 0
    join pg_stats as s
        on s.schemaname = 'public' and s.tablename = t.relname and s.attname = a.attname
    cross join lateral unnest(s.most_common_vals::text::text[], s.most_common_freqs)
        as common (value, share)
    where
        a.atttypid = 'boolean'::regtype
        or exists (
            select
            from named
            where
                named.oid = t.oid
                and named.attnum = a.attnum
                and (
                    strpos(named.words, quote_literal(common.value) || '::text') > 0
                    or (
                        generates
                        and common.value ~ '^-?[0-9]+$'
                        and named.words ~ ('(THEN|ELSE) ' || common.value || '\M')
                    )
                )
        )
),

columns as (
    select
        t.oid,
        s.attname,
        jsonb_strip_nulls(
            jsonb_build_object(
                'null', nullif(s.null_frac, 0),
                'width', s.avg_width,
                'distinct', s.n_distinct,
                'correlation', s.correlation,
                'common', (
                    select jsonb_object_agg(value, share)
                    from named_values
                    where named_values.oid = t.oid and named_values.attnum = a.attnum
                ),
                'heavy', case
                    when s.attname = :'tenant' and s.most_common_freqs is not null
                    then (
                        select jsonb_build_array(count(*), avg(share))
                        from unnest(s.most_common_freqs) as share
                    )
                end
            )
        ) as about
    from tables as t
    join pg_stats as s on s.schemaname = 'public' and s.tablename = t.relname
    join pg_attribute as a on a.attrelid = t.oid and a.attname = s.attname
)

select jsonb_build_object(
    'counted', :'counted',
    'tables', jsonb_object_agg(
        relname,
        jsonb_build_object(
            'rows', reltuples::bigint,
            'pages', relpages,
            'columns', coalesce(
                (
                    select jsonb_object_agg(attname, about)
                    from columns
                    where columns.oid = tables.oid
                ),
                '{}'
            ),
            'indexes', coalesce(
                (
                    select jsonb_object_agg(
                        i.relname,
                        jsonb_build_object('rows', i.reltuples::bigint, 'pages', i.relpages)
                    )
                    from pg_index as x
                    join pg_class as i on i.oid = x.indexrelid
                    where x.indrelid = tables.oid and i.reltuples >= 0
                ),
                '{}'
            )
        )
    )
)
from tables
