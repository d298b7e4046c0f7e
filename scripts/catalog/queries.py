"""The SQL that reads a catalog: a query for each kind of object, the same on PostgreSQL 16 to 18.

Each gives kind, name, the parent's kind and name, and the attributes as one JSON object.
"""

from __future__ import annotations

from scripts.catalog.scope import COMMON

ENABLED = "case {} when 'O' then 'yes' when 'D' then 'no' when 'R' then 'replica' else 'always' end"

SCHEMAS = """
select 'schema', name, null, null, jsonb_build_object(
    'comment', obj_description(oid, 'pg_namespace')
)
from namespace
"""

# Not the version: hosts differ in what they offer, and CREATE EXTENSION names none.
EXTENSIONS = """
select 'extension', quote_ident(e.extname), null, null, jsonb_build_object(
    'schema', n.name
)
from pg_extension as e
join namespace as n on n.oid = e.extnamespace
"""

TYPES = """
select kind, t.name, null, null, jsonb_build_object(
    'base', case typtype when 'd' then format_type(typbasetype, typtypmod) end,
    'labels', (
        select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder)
        from pg_enum
        where enumtypid = t.oid
    ),
    'subtype', (select format_type(rngsubtype, null) from pg_range where rngtypid = t.oid),
    'collation', c.name,
    'not null', typnotnull,
    'default', pg_get_expr(typdefaultbin, 0),
    'comment', obj_description(t.oid, 'pg_type')
)
from type as t
left join collation_name as c on c.oid = t.typcollation
"""

ROUTINES = """
select kind, name, null, null, jsonb_build_object(
    'definition', case when kind <> 'aggregate' then pg_get_functiondef(p.oid) end,
    'result', case when kind <> 'procedure' then format_type(prorettype, null) end,
    'state', format_type(aggtranstype, null),
    'step', aggtransfn::regprocedure,
    'final', nullif(aggfinalfn, 0)::regprocedure,
    'initial', agginitval,
    'comment', obj_description(p.oid, 'pg_proc')
)
from routine as p
left join pg_aggregate on aggfnoid = p.oid
"""

SEQUENCES = """
select r.kind, r.name, case when a.name is not null then 'column' end, a.name, jsonb_build_object(
    'type', format_type(seqtypid, null),
    'start', seqstart,
    'increment', seqincrement,
    'minimum', seqmin,
    'maximum', seqmax,
    'cache', seqcache,
    'cycle', seqcycle,
    'owned by', a.name,
    'persistence', persistence,
    'comment', obj_description(r.oid, 'pg_class')
)
from pg_sequence
join relation as r on r.oid = seqrelid
left join pg_depend as d
    on d.classid = 'pg_class'::regclass and d.objid = r.oid
    and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
left join attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
"""

TABLES = """
select kind, name, null, null, jsonb_build_object(
    'persistence', persistence,
    'row security', relrowsecurity,
    'force row security', relforcerowsecurity,
    'options', options,
    'inherits', (
        select string_agg(parent.name, ', ' order by inhseqno)
        from pg_inherits
        join relation as parent on parent.oid = inhparent
        where inhrelid = r.oid
    ),
    'partition by', pg_get_partkeydef(oid),
    'partition', pg_get_expr(relpartbound, oid),
    'replica identity', case relreplident
        when 'd' then 'default' when 'n' then 'nothing' when 'f' then 'full' else 'index'
    end,
    'comment', obj_description(oid, 'pg_class')
)
from relation as r
where kind in ('table', 'foreign table')
"""

# The statistics target that is not set was -1 before PostgreSQL 17.
COLUMNS = """
select 'column', a.name, relation_kind, relation_name, jsonb_build_object(
    'position', position,
    'type', format_type(atttypid, atttypmod),
    'collation', case when attcollation <> typcollation then c.name end,
    'not null', attnotnull,
    'default', case attgenerated when '' then pg_get_expr(adbin, adrelid) end,
    'generated', case when attgenerated <> '' then
        pg_get_expr(adbin, adrelid) || case attgenerated when 's' then ' stored' else ' virtual' end
    end,
    'identity', case attidentity when 'a' then 'always' when 'd' then 'by default' end,
    'storage', case when attstorage <> typstorage then case attstorage
        when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended'
    end end,
    'compression', case attcompression when 'p' then 'pglz' when 'l' then 'lz4' end,
    'statistics', nullif(attstattarget, -1),
    'options', array_to_string(attoptions, ', '),
    'comment', col_description(attrelid, attnum)
)
from attribute as a
join pg_type as t on t.oid = a.atttypid
left join pg_attrdef on adrelid = attrelid and adnum = attnum
left join collation_name as c on c.oid = attcollation
"""

# Of NOT NULL, which PostgreSQL 18 lists as constraints, only those that earlier versions cannot
# have; of partitions' foreign keys none, for each version makes its own set of rows for them.
CONSTRAINTS = """
select
    'constraint', parent_name || '.' || quote_ident(conname), parent_kind, parent_name,
    jsonb_build_object(
        'definition', regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', ''),
        'validated', pg_get_constraintdef(c.oid) not like '% NOT VALID',
        'comment', obj_description(c.oid, 'pg_constraint')
    )
from pg_constraint as c
left join relation as r on r.oid = conrelid
left join type as t on t.oid = contypid
cross join lateral (
    select coalesce(r.name, t.name) as parent_name, coalesce(r.kind, t.kind) as parent_kind
) as parent
where parent_name is not null
    and contype <> 't'
    and (contype <> 'n' or pg_get_constraintdef(c.oid) like '% NOT VALID')
    and (contype <> 'f' or conparentid = 0)
"""

INDEXES = """
select
    'index', n.name || '.' || quote_ident(x.relname),
    case when k.conname is null then r.kind else 'constraint' end,
    r.name || coalesce('.' || quote_ident(k.conname), ''),
    jsonb_build_object(
        'definition', pg_get_indexdef(indexrelid),
        'valid', indisvalid,
        'ready', indisready,
        'comment', obj_description(indexrelid, 'pg_class')
    )
from pg_index as i
join relation as r on r.oid = indrelid
join pg_class as x on x.oid = indexrelid
join namespace as n on n.oid = x.relnamespace
left join pg_constraint as k on k.conindid = indexrelid and k.contype in ('p', 'u', 'x')
"""

TRIGGERS = f"""
select 'trigger', name || '.' || quote_ident(tgname), kind, name, jsonb_build_object(
    'definition', pg_get_triggerdef(t.oid),
    'enabled', {ENABLED.format("tgenabled")},
    'comment', obj_description(t.oid, 'pg_trigger')
)
from pg_trigger as t
join relation as r on r.oid = tgrelid
where not tgisinternal
"""

POLICIES = """
select 'policy', name || '.' || quote_ident(polname), kind, name, jsonb_build_object(
    'command', case polcmd
        when '*' then 'all' when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
        else 'delete'
    end,
    'permissive', polpermissive,
    'roles', (
        select string_agg(role, ', ' order by role)
        from unnest(polroles) as entry (oid)
        cross join lateral (
            select case entry.oid when 0 then 'PUBLIC' else entry.oid::regrole::text end as role
        ) as named
    ),
    'using', pg_get_expr(polqual, polrelid),
    'check', pg_get_expr(polwithcheck, polrelid),
    'comment', obj_description(p.oid, 'pg_policy')
)
from pg_policy as p
join relation as r on r.oid = polrelid
"""

VIEWS = """
select kind, name, null, null, jsonb_build_object(
    'definition', pg_get_viewdef(oid),
    'options', options,
    'comment', obj_description(oid, 'pg_class')
)
from relation
where kind in ('view', 'materialized view')
"""

RULES = f"""
select 'rule', name || '.' || quote_ident(rulename), kind, name, jsonb_build_object(
    'definition', pg_get_ruledef(w.oid),
    'enabled', {ENABLED.format("ev_enabled")},
    'comment', obj_description(w.oid, 'pg_rewrite')
)
from pg_rewrite as w
join relation as r on r.oid = ev_class
where rulename <> '_RETURN'
"""

STATISTICS = """
select 'statistics', n.name || '.' || quote_ident(stxname), r.kind, r.name, jsonb_build_object(
    'definition', pg_get_statisticsobjdef(s.oid),
    'comment', obj_description(s.oid, 'pg_statistic_ext')
)
from pg_statistic_ext as s
join namespace as n on n.oid = stxnamespace
join relation as r on r.oid = stxrelid
"""

# MAINTAIN, which came with PostgreSQL 17, counts only for another role than the owner that does not
# hold all the rest. The owner goes without a name, for it is another on every host.
GRANTS = """
select
    'grants', kind || ' ' || name || ' to ' || role, kind, name,
    jsonb_build_object(
        'privileges', case
            when array_remove(held, 'MAINTAIN') = every then 'all'
            else array_to_string(held, ', ')
        end,
        'with grant option', case
            when array_remove(passed, 'MAINTAIN') = every then 'all'
            else array_to_string(passed, ', ')
        end
    )
from (
    select
        kind, name, every, role,
        array_agg(distinct privilege_type order by privilege_type) as held,
        array_agg(distinct privilege_type order by privilege_type) filter (where is_grantable)
            as passed
    from (
        select kind, name, relowner, relacl, case kind when 'sequence' then 's' else 'r' end
        from relation
        where kind <> 'type'
        union all
        select 'column', name, relowner, attacl, 'c' from attribute where attacl is not null
        union all
        select kind, name, proowner, proacl, 'f' from routine
        union all
        select kind, name, typowner, typacl, 'T' from type
        union all
        select 'schema', name, nspowner, nspacl, 'n' from namespace
    ) as object (kind, name, owner, acl, class)
    cross join lateral (
        select array_agg(privilege_type order by privilege_type) as every
        from aclexplode(acldefault(class::"char", owner))
        where grantee = owner and privilege_type <> 'MAINTAIN'
    ) as possible
    cross join lateral aclexplode(coalesce(acl, acldefault(class::"char", owner))) as held
    cross join lateral (
        select case grantee
            when owner then 'its owner' when 0 then 'PUBLIC' else grantee::regrole::text
        end as role
    ) as named
    where grantee <> owner or privilege_type <> 'MAINTAIN'
    group by kind, name, every, role
) as granted
"""

QUERY = f"with {COMMON}" + "union all".join(
    (
        SCHEMAS,
        EXTENSIONS,
        TYPES,
        ROUTINES,
        SEQUENCES,
        TABLES,
        COLUMNS,
        CONSTRAINTS,
        INDEXES,
        TRIGGERS,
        POLICIES,
        VIEWS,
        RULES,
        STATISTICS,
        GRANTS,
    )
)
