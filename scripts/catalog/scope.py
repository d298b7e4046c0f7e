"""What is read of a catalog, and what is left out: the queries of all kinds start from here."""

from __future__ import annotations

from scripts.catalog.model import BOOKKEEPING


def _not_of_an_extension(table: str, oid: str) -> str:
    return f"""not exists (
        select from pg_depend
        where classid = '{table}'::regclass and objid = {oid} and deptype = 'e'
    )"""


# Every object is reached through one of these, so that what they leave out is left out everywhere.
COMMON = f"""
namespace as (
    select oid, nspname, nspowner, nspacl, quote_ident(nspname) as name
    from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
        and {_not_of_an_extension("pg_namespace", "oid")}
),
bookkeeping as (
    select c.oid
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'public'
        and c.relname in ({", ".join(f"'{table}'" for table in sorted(BOOKKEEPING))})
),
relation as (
    select
        c.*,
        n.name || '.' || quote_ident(c.relname) as name,
        case c.relkind
            when 'v' then 'view'
            when 'm' then 'materialized view'
            when 'f' then 'foreign table'
            when 'S' then 'sequence'
            when 'c' then 'type'
            else 'table'
        end as kind,
        case c.relpersistence when 'u' then 'unlogged' else 'permanent' end as persistence,
        (
            select string_agg(entry, ', ' order by entry) from unnest(c.reloptions) as entry
        ) as options
    from pg_class as c
    join namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
        and c.oid not in (select oid from bookkeeping)
        and {_not_of_an_extension("pg_class", "c.oid")}
        and not exists (
            select from pg_depend as owned
            where owned.classid = 'pg_class'::regclass and owned.objid = c.oid
                and owned.refclassid = 'pg_class'::regclass
                and owned.refobjid in (select oid from bookkeeping)
                and owned.deptype in ('a', 'i')
        )
),
attribute as (
    select
        a.*,
        r.kind as relation_kind,
        r.name as relation_name,
        r.relowner,
        r.name || '.' || quote_ident(a.attname) as name,
        row_number() over (partition by a.attrelid order by a.attnum) as position
    from pg_attribute as a
    join relation as r on r.oid = a.attrelid
    where a.attnum > 0 and not a.attisdropped and r.kind <> 'sequence'
),
routine as (
    select
        p.*,
        case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end
            as kind,
        n.name || '.' || quote_ident(p.proname)
            || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name
    from pg_proc as p
    join namespace as n on n.oid = p.pronamespace
    where {_not_of_an_extension("pg_proc", "p.oid")}
),
type as (
    select
        t.*,
        case t.typtype when 'd' then 'domain' else 'type' end as kind,
        n.name || '.' || quote_ident(t.typname) as name
    from pg_type as t
    join namespace as n on n.oid = t.typnamespace
    left join pg_class as c on c.oid = t.typrelid
    where (t.typtype in ('d', 'e', 'r') or c.relkind = 'c')
        and {_not_of_an_extension("pg_type", "t.oid")}
),
collation_name as (
    select c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.collname) as name
    from pg_collation as c
    join pg_namespace as n on n.oid = c.collnamespace
)
"""
