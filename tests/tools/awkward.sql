-- A schema of everything that is hard to read, to print, or to put in order.
do $$
begin
    create role snap_app;
    create role snap_ro;
exception
    when duplicate_object then null;
end
$$;

create schema "Weird Schema";
comment on schema "Weird Schema" is 'a schema; with -- a "quoted" name';
grant usage on schema "Weird Schema" to snap_app;

create extension citext;

create type mood as enum ('sad', 'it''s ok', 'happy');
comment on type mood is 'moods';
create type pair as (a integer, b text collate "C");
create type span as range (subtype = float8);
create domain positive as integer default 1 not null constraint positive_check check (value > 0);

create sequence odd_seq as integer
    increment by -3 minvalue -1000 maxvalue 500 start 500 cache 7 cycle;
comment on sequence odd_seq is 'odd';
grant usage, select on sequence odd_seq to snap_app;

create function add(a integer, b integer) returns integer language sql immutable as $_$ select a + b; $_$;
create function add(a text, b text default 'x;y') returns text language plpgsql stable as $body$
begin
    -- a comment; with a semicolon
    return a || $q$ $$; create table nothing(); $q$ || b;
end
$body$;
comment on function add(text, text) is 'line one;
line two -- not a comment
it''s fine';
revoke all on function add(text, text) from public;
grant execute on function add(text, text) to snap_app;
create function "Ünï"(text) returns text language sql return $1;
comment on function "Ünï"(text) is 'Ünïcode ☃ — dash';
create function touch() returns trigger language plpgsql as $$ begin new.changed := now(); return new; end $$;
create procedure bump(x inout integer) language sql begin atomic select x + 1; end;
create aggregate total(integer) (sfunc = int4pl, stype = integer, initcond = '0');

create table "Mixed Case" (
    id bigint generated always as identity (start 100 increment 5) primary key,
    "select" text collate "C" not null default 'a;''b',
    parent bigint,
    changed timestamptz not null default now(),
    twice integer generated always as (length("select") * 2) stored,
    mail citext,
    feel mood default 'happy' not null,
    amount positive,
    n integer default nextval('odd_seq'),
    code varchar(10) default 'q' check (code in ('q', 'r')),
    born timestamptz default '2024-01-01 00:00+02',
    constraint "Odd ""name""" check (amount < 100),
    constraint parent_fkey foreign key (parent) references "Mixed Case" (id) on delete cascade
);
comment on table "Mixed Case" is 'It''s a table;
with a newline and $$ -- dollars';
comment on column "Mixed Case"."select" is E'tab\there, backslash \\ and ''quote''';
comment on column "Mixed Case".id is 'the key';
comment on constraint parent_fkey on "Mixed Case" is 'self';
comment on constraint "Odd ""name""" on "Mixed Case" is 'inline';
alter table "Mixed Case" alter column "select" set statistics 500;
alter table "Mixed Case" add constraint late check (n > -5) not valid;
create index mixed_lower on "Mixed Case" (lower("select") collate "C" desc nulls last)
    include (n) where twice > 3 and code in ('q', 'r');
create unique index mixed_uq on "Mixed Case" (n) nulls not distinct;
comment on index mixed_lower is 'idx';
create trigger touch before update of "select", n on "Mixed Case"
    for each row
    when ((old.n, old.parent, old."select") is distinct from (new.n, new.parent, new."select"))
    execute function touch();
comment on trigger touch on "Mixed Case" is 'trg';
alter table "Mixed Case" enable row level security;
alter table "Mixed Case" force row level security;
create policy own on "Mixed Case"
    using (id = nullif(current_setting('app.x', true), '')::bigint) with check (true);
create policy ro on "Mixed Case" as restrictive for select to snap_app, snap_ro using (true);
comment on policy own on "Mixed Case" is 'pol';
grant select, insert ("select", n), update ("select") on "Mixed Case" to snap_app;
grant select on "Mixed Case" to snap_ro with grant option;
grant usage on sequence "Mixed Case_id_seq" to snap_app;

-- Two tables that refer to each other, and one whose name sorts before the table that it needs.
create table cyc_a (id integer primary key, b integer);
create table cyc_b (
    id integer primary key,
    a integer constraint cyc_b_a_fkey references cyc_a deferrable initially deferred
);
grant all on cyc_a to snap_ro;
alter table cyc_a add constraint cyc_a_b_fkey foreign key (b) references cyc_b;
create table aaa_child (
    id integer primary key,
    mixed bigint references "Mixed Case",
    unique (mixed, id),
    exclude using gist (int4range(id, id + 1) with &&)
);
-- A foreign key to a unique index of its own table, which is no constraint.
create table self_unique (a integer, b integer);
create unique index self_unique_a on self_unique (a);
alter table self_unique add constraint self_unique_b_fkey foreign key (b) references self_unique (a);

create table "Weird Schema".t ("a b" integer not null constraint pos check ("a b" > 0))
    with (fillfactor = 70, autovacuum_enabled = false);
create unlogged table unl (id serial primary key, j jsonb not null default '{}');
create table borrows (id integer default nextval('unl_id_seq'));
create table "Borrows" (id integer default nextval('"Mixed Case_id_seq"'));
create table renamed_from (id integer constraint my_not_null not null, a text not null);
alter table renamed_from rename to renamed;
alter table renamed rename column a to b;

create table part (id integer not null, at date not null, primary key (id, at)) partition by range (at);
create index part_at on part (at);
create table a_part_2024 partition of part for values from ('2024-01-01') to ('2025-01-01');
create table part_default partition of part default;
create table to_part (id integer, at date, foreign key (id, at) references part);
alter table part add foreign key (id) references aaa_child;
create table inh_parent (x integer check (x > 0));
create table inh_child (y integer) inherits (inh_parent);

-- Functions and policies that need tables, and tables that need functions.
create function use_row(r "Mixed Case") returns text immutable language sql as $$ select r."select" $$;
create index mixed_use_row on "Mixed Case" (use_row("Mixed Case"));
create function late_default() returns integer language sql as $$ select count(*)::integer from cyc_a $$;
create function atomic_count() returns bigint language sql begin atomic select count(*) from cyc_b; end;
create table uses_functions (
    id integer primary key default late_default(),
    k integer default add(1, 2),
    n bigint default atomic_count()
);
create policy needs_later on aaa_child using (exists (select from uses_functions as u where u.id = aaa_child.id));

create view v as select id, "select" from "Mixed Case" where twice > 1;
alter view v set (security_invoker = true);
comment on view v is 'a view';
grant select on v to snap_ro;
create view a_view_of_v as select * from v;
create rule nope as on delete to a_view_of_v do instead nothing;
create view by_key as select id, b, count(*) from cyc_a group by id;
create function rows_of_view() returns setof by_key language sql as $$ select * from by_key $$;
create materialized view mv as select count(*) as c from cyc_a with no data;
create unique index mv_c on mv (c);
create statistics st (dependencies) on id, b from cyc_a;

revoke usage on schema public from public;
alter default privileges grant select on tables to snap_ro;
create table after_defaults (id integer primary key);
alter table after_defaults replica identity full;
