-- Better Auth owns this table's shape and its camelCase names; the CHECKs hold for all it writes.
create table "user" (
    id text collate "C" not null,
    name text not null,
    email text not null,
    "emailVerified" boolean not null default false,
    image text,
    "createdAt" timestamptz not null default now(),
    "updatedAt" timestamptz not null default now(),
    constraint user_pkey primary key (id),
    constraint user_email_key unique (email),
    constraint user_id_length_check check (char_length(id) between 1 and 255),
    constraint user_name_length_check check (char_length(name) <= 255),
    constraint user_email_length_check check (char_length(email) between 1 and 255),
    constraint user_email_lower_check check (email = lower(email))
);

comment on table "user" is
    'Accounts, written by Better Auth only. Deleting one removes all that is theirs, by cascade.';

comment on column "user".id is
    'Made by Better Auth, 32 characters by default; C collation needs no reindex after an upgrade.';

comment on column "user".name is 'Name to show, as given at sign-up; may be empty.';

comment on column "user".email is
    'Sign-in address. Better Auth lower-cases it, so the unique key ignores case.';

comment on column "user"."emailVerified" is 'True once the owner of the address has confirmed it.';

comment on column "user".image is 'Address of a picture; NULL if there is none.';

comment on column "user"."createdAt" is 'Time of sign-up.';

comment on column "user"."updatedAt" is 'Set by Better Auth itself: this table has no trigger.';

alter table "user" enable row level security;

alter table "user" force row level security;

create policy user_self_select on "user"
    for select
    to todo_app
    using (id = nullif(current_setting('app.user_id', true), ''));

create policy user_auth_all on "user"
    to todo_auth
    using (true);

create policy user_readonly_select on "user"
    for select
    to todo_readonly
    using (true);

grant select on "user" to todo_app, todo_readonly;

grant select, insert, update, delete on "user" to todo_auth;
