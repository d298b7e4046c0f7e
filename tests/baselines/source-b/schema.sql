-- The shape that the fifth description gives: UUIDs as text, a status, indexes that begin with the user.
-- It has no due date.
create table "user" (
    id text primary key,
    name text not null,
    email text not null unique
);

create table tasks (
    id text primary key,
    user_id text not null references "user" (id),
    title text not null,
    description text,
    status text not null default 'pending',
    priority text not null default 'medium',
    tags jsonb not null default '[]',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index on tasks (user_id, status);

create index on tasks (user_id, priority);

create index on tasks (user_id, created_at desc);
