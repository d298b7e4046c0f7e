"""The SQL that reads a catalog: a part for each system catalog, the same on PostgreSQL 16 to 18.

Each part gives the address of its objects and of what they belong to, owner and privileges where
there are any, and attributes as one JSON object; kind, name, comment and grants are added to all.
"""

from __future__ import annotations

from scripts.catalog.model import BOOKKEEPING

ALL = "^DELETE, INSERT, (MAINTAIN, )?REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE$"
"""Every privilege on a table; MAINTAIN came with PostgreSQL 17."""


def at(catalog: str, oid: str, part: str = "0") -> str:
    """Return the SQL for an object's address: its catalog, oid, and the number of a column."""
    return f"array['{catalog}'::regclass, {oid}, {part}]::oid[]"


def words(column: str, pairs: str) -> str:
    """Return the SQL that replaces a catalog's letters by words: `o=origin, d=disabled`."""
    whens = " ".join("when '{}' then '{}'".format(*pair.split("=")) for pair in pairs.split(", "))
    return f"case {column} {whens} end"


ENABLED = "O=yes, D=no, R=replica, A=always"

# First, for its columns have the types of the whole query. The statistics target that is not set
# was -1 before PostgreSQL 17.
COLUMNS = f"""
select
    {at("pg_class", "attrelid", "attnum")},
    case relkind when 'c' then {at("pg_type", "r.reltype")} else {at("pg_class", "r.oid")} end,
    relowner, attacl, jsonb_build_object(
        'position', attnum,
        'type', format_type(atttypid, atttypmod),
        'collation', nullif(attcollation, typcollation)::regcollation,
        'not null', attnotnull,
        'default', case attgenerated when '' then pg_get_expr(adbin, adrelid) end,
        'generated', case when attgenerated <> '' then
            pg_get_expr(adbin, adrelid) || {words("attgenerated", "s= stored, v= virtual")}
        end,
        'identity', {words("attidentity", "a=always, d=by default")},
        'storage', {words("nullif(attstorage, typstorage)", "p=plain, e=external, m=main")},
        'compression', {words("attcompression", "p=pglz, l=lz4")},
        'statistics', nullif(attstattarget, -1),
        'options', array_to_string(attoptions, ', ')
    )
from pg_attribute
join relation as r on r.oid = attrelid and relkind <> 'S'
join pg_type as t on t.oid = atttypid
left join pg_attrdef on adrelid = attrelid and adnum = attnum
where attnum > 0 and not attisdropped
"""

SCHEMAS = f"""
select
    {at("pg_namespace", "oid")}, null, nspowner, coalesce(nspacl, acldefault('n', nspowner)), '{{}}'
from namespace
"""

# Not the version: hosts differ in what they offer, and CREATE EXTENSION names none.
EXTENSIONS = f"""
select {at("pg_extension", "e.oid")}, null, null, null, jsonb_build_object('schema', nspname)
from pg_extension as e
join namespace as n on n.oid = extnamespace
"""

TYPES = f"""
select
    {at("pg_type", "t.oid")}, null, typowner, coalesce(typacl, acldefault('T', typowner)),
    jsonb_build_object(
        'base', format_type(nullif(typbasetype, 0), typtypmod),
        'labels', (
            select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder)
            from pg_enum
            where enumtypid = t.oid
        ),
        'subtype', (select rngsubtype::regtype from pg_range where rngtypid = t.oid),
        'collation', nullif(typcollation, 0)::regcollation,
        'not null', typnotnull,
        'default', pg_get_expr(typdefaultbin, 0)
    )
from pg_type as t
left join pg_class as c on c.oid = typrelid
where typnamespace in (select oid from namespace) and (typtype in ('d', 'e', 'r') or relkind = 'c')
"""

ROUTINES = f"""
select
    {at("pg_proc", "p.oid")}, null, proowner, coalesce(proacl, acldefault('f', proowner)),
    jsonb_build_object('definition', case
        when prokind <> 'a' then pg_get_functiondef(p.oid)
        else concat_ws(
            ', ', aggtransfn::regprocedure, aggtranstype::regtype,
            nullif(aggfinalfn, 0)::regprocedure, agginitval
        )
    end)
from pg_proc as p
left join pg_aggregate on aggfnoid = p.oid
where pronamespace in (select oid from namespace)
"""

# Tables, views and sequences; a sequence belongs to the column that it was made for.
RELATIONS = f"""
select
    {at("pg_class", "r.oid")},
    case when refobjid is not null then {at("pg_class", "refobjid", "refobjsubid")} end,
    relowner,
    coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)),
    jsonb_build_object(
        'definition', case when relkind in ('v', 'm') then pg_get_viewdef(r.oid) end,
        'persistence', {words("relpersistence", "p=permanent, u=unlogged")},
        'row security', relrowsecurity,
        'force row security', relforcerowsecurity,
        'options', (select string_agg(o, ', ' order by o) from unnest(reloptions) as o),
        'inherits', (
            select string_agg(inhparent::regclass::text, ', ' order by inhseqno)
            from pg_inherits
            where inhrelid = r.oid
        ),
        'partition by', pg_get_partkeydef(r.oid),
        'partition', pg_get_expr(relpartbound, r.oid),
        'replica identity', {words("relreplident", "d=default, n=nothing, f=full, i=index")},
        'owned by', (pg_identify_object('pg_class'::regclass, refobjid, refobjsubid)).identity,
        'type', seqtypid::regtype, 'start', seqstart, 'increment', seqincrement,
        'minimum', seqmin, 'maximum', seqmax, 'cache', seqcache, 'cycle', seqcycle
    )
from relation as r
left join pg_sequence on seqrelid = r.oid
left join pg_depend as d
    on relkind = 'S' and d.classid = 'pg_class'::regclass and d.objid = r.oid
    and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
where relkind <> 'c'
"""

# Of NOT NULL, which PostgreSQL 18 lists as constraints, only those that earlier versions cannot
# have; of partitions' foreign keys none, for each version makes its own set of rows for them.
CONSTRAINTS = f"""
select
    {at("pg_constraint", "oid")},
    case contypid when 0 then {at("pg_class", "conrelid")} else {at("pg_type", "contypid")} end,
    null, null, jsonb_build_object(
        'definition', regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', ''),
        'validated', pg_get_constraintdef(oid) not like '% NOT VALID'
    )
from pg_constraint
where connamespace in (select oid from namespace)
    and contype <> 't'
    and (contype <> 'n' or pg_get_constraintdef(oid) like '% NOT VALID')
    and (contype <> 'f' or conparentid = 0)
"""

INDEXES = f"""
select
    {at("pg_class", "indexrelid")},
    case
        when k.oid is null then {at("pg_class", "indrelid")} else {at("pg_constraint", "k.oid")}
    end,
    null, null, jsonb_build_object(
        'definition', pg_get_indexdef(indexrelid), 'valid', indisvalid, 'ready', indisready
    )
from pg_index
join relation as r on r.oid = indrelid
left join pg_constraint as k on conindid = indexrelid and contype in ('p', 'u', 'x')
"""

TRIGGERS = f"""
select
    {at("pg_trigger", "t.oid")}, {at("pg_class", "tgrelid")}, null, null, jsonb_build_object(
        'definition', pg_get_triggerdef(t.oid), 'enabled', {words("tgenabled", ENABLED)}
    )
from pg_trigger as t
join relation as r on r.oid = tgrelid
where not tgisinternal
"""

POLICIES = f"""
select
    {at("pg_policy", "p.oid")}, {at("pg_class", "polrelid")}, null, null, jsonb_build_object(
        'command', {words("polcmd", "*=all, r=select, a=insert, w=update, d=delete")},
        'permissive', polpermissive,
        'roles', (
            select string_agg(role, ', ' order by role)
            from (
                select case o when 0 then 'PUBLIC' else o::regrole::text end
                from unnest(polroles) as o
            ) as named (role)
        ),
        'using', pg_get_expr(polqual, polrelid),
        'check', pg_get_expr(polwithcheck, polrelid)
    )
from pg_policy as p
join relation as r on r.oid = polrelid
"""

RULES = f"""
select
    {at("pg_rewrite", "w.oid")}, {at("pg_class", "ev_class")}, null, null, jsonb_build_object(
        'definition', pg_get_ruledef(w.oid), 'enabled', {words("ev_enabled", ENABLED)}
    )
from pg_rewrite as w
join relation as r on r.oid = ev_class
where rulename <> '_RETURN'
"""

STATISTICS = f"""
select
    {at("pg_statistic_ext", "s.oid")}, {at("pg_class", "stxrelid")}, null, null,
    jsonb_build_object('definition', pg_get_statisticsobjdef(s.oid))
from pg_statistic_ext as s
join relation as r on r.oid = stxrelid
"""

PARTS = (
    *(COLUMNS, SCHEMAS, EXTENSIONS, TYPES, ROUTINES, RELATIONS, CONSTRAINTS),
    *(INDEXES, TRIGGERS, POLICIES, RULES, STATISTICS),
)

# The owner goes without a name, for it is another on every host, and without MAINTAIN.
QUERY = f"""
with namespace as (
    select * from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
),
relation as (
    select *
    from pg_class
    where relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
        and relnamespace in (select oid from namespace)
        and (relnamespace, relname) not in (
            select 'public'::regnamespace, unnest('{{{",".join(sorted(BOOKKEEPING))}}}'::name[])
        )
),
object (address, parent, owner, acl, attributes) as ({"union all".join(PARTS)})
select
    address::text, parent::text, i.type, i.identity,
    jsonb_strip_nulls(attributes || jsonb_build_object('comment', description))
        || coalesce(grants, '{{}}')
from object
cross join lateral pg_identify_object(address[1], address[2], address[3]::integer) as i
left join pg_description
    on classoid = address[1] and objoid = address[2] and objsubid = address[3]::integer
cross join lateral (
    select jsonb_object_agg(role, regexp_replace(privileges, '{ALL}', 'all'))
    from (
        select
            'granted to '
                || case grantee
                    when owner then 'its owner' when 0 then 'PUBLIC' else grantee::regrole::text
                end
                || case when is_grantable then ' with grant option' else '' end,
            string_agg(distinct privilege_type, ', ' order by privilege_type)
        from aclexplode(acl)
        where grantee <> owner or privilege_type <> 'MAINTAIN'
        group by 1
    ) as held (role, privileges)
) as granted (grants)
where not exists (
    select from pg_depend
    where classid = address[1] and objid = address[2] and deptype = 'e'
)
"""
