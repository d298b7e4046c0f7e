-- The shape that four of the application's five descriptions give: integer ids, a boolean for the
-- state, one index for each column that is filtered or sorted.
create table "user" (
    id text primary key,
    name text not null,
    email text not null unique
);

create table tasks (
    id serial primary key,
    user_id text not null references "user" (id),
    title varchar(200) not null,
    description varchar(1000),
    completed boolean not null default false,
    in_progress boolean not null default false,
    priority varchar(10) not null default 'medium',
    due_date date,
    tags jsonb not null default '[]',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index on tasks (user_id);

create index on tasks (completed);

create index on tasks (priority);

create index on tasks (due_date);
