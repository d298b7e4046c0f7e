-- The key begins with the user: one index serves the foreign key, the newest-first list and its
-- pages, and the table distributes by user_id as it is. It covers the status, so that one pass in the
-- order of the heap counts a user's tasks: by an index that leads with the state the same count goes
-- to and fro between the pages of the visibility map.
--
-- What changes together stands last and together: an update's WAL runs from the first byte that
-- changed to the last. fillfactor leaves room for the new version on the same page. Vacuum comes
-- after 2% instead of 20% of the rows, since index-only scans need its visibility map.
create table tasks (
    user_id text collate "C" not null,
    id bigint not null generated always as identity,
    created_at timestamptz not null default now(),
    due_date date,
    title text not null,
    description text,
    tags text[] not null default '{}',
    priority text not null default 'medium',
    -- It holds three values, in every task and in an index.
    -- squawk-ignore prefer-bigint-over-smallint
    priority_rank smallint not null
        generated always as (
            case priority when 'high' then 3 when 'medium' then 2 else 1 end
        ) stored,
    updated_at timestamptz not null default now(),
    status text not null default 'pending',
    completed boolean not null generated always as (status = 'completed') stored,
    constraint tasks_pkey primary key (user_id, id) include (status),
    constraint tasks_user_id_fkey foreign key (user_id) references "user" (id) on delete cascade,
    constraint tasks_title_length_check check (char_length(title) between 1 and 200),
    -- What Python's str.strip() removes is blank; a locale's class would differ between servers.
    constraint tasks_title_blank_check check (
        title ~ '[^\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a'
            '\u2028\u2029\u202f\u205f\u3000]'
    ),
    constraint tasks_description_length_check check (char_length(description) <= 1000),
    constraint tasks_status_check check (status in ('pending', 'in_progress', 'completed')),
    constraint tasks_priority_check check (priority in ('low', 'medium', 'high')),
    constraint tasks_due_date_check check (due_date between '0001-01-01' and '9999-12-31'),
    -- CHECKs run in the order of their names and must not raise for an array that another refuses:
    -- cardinality() and unnest() take any shape, where array_position() takes one dimension only.
    constraint tasks_tags_count_check check (cardinality(tags) <= 20),
    -- An empty array is the usual case and spares the call.
    constraint tasks_tags_items_check check (tags = '{}' or tags_are_valid(tags)),
    constraint tasks_tags_shape_check check (
        coalesce(array_ndims(tags), 1) = 1
        and coalesce(array_lower(tags, 1), 1) = 1
    )
)
with (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02
);

comment on table tasks is 'What a user has to do.';

comment on column tasks.user_id is 'Whose task it is; never changes. Every query names it.';

comment on column tasks.id is
    'Newest is highest; unique by itself too, but always asked for with user_id.';

comment on column tasks.title is '1 to 200 characters, not all of them blank.';

comment on column tasks.description is 'At most 1000 characters; NULL if there is none.';

comment on column tasks.status is
    'pending, in_progress or completed. The only fact about progress: completed follows from it.';

comment on column tasks.completed is
    'status = ''completed'', stored because an index leads with it.';

comment on column tasks.priority is
    'low, medium or high; order by priority_rank, not by this text.';

comment on column tasks.priority_rank is
    'high 3, medium 2, low 1, stored for an index. Another expression rewrites the table.';

comment on column tasks.due_date is
    'A day without a time zone, in the years 1 to 9999; NULL if open.';

comment on column tasks.tags is 'At most 20, each 1 to 50 characters, not blank, none twice.';

comment on column tasks.created_at is
    'Set by the database; the application has no privilege to write it.';

comment on column tasks.updated_at is
    'Moved by trigger when a column really changed, and only then.';

-- The columns are named one by one: in a BEFORE trigger generated columns are not computed yet, so
-- a whole row always differs. A new column that can change has to be added here.
create trigger tasks_set_updated_at
    before update on tasks
    for each row
    when (
        (old.title, old.description, old.status, old.priority, old.due_date, old.tags)
        is distinct from
        (new.title, new.description, new.status, new.priority, new.due_date, new.tags)
    )
    execute function set_updated_at();

alter table tasks enable row level security;

alter table tasks force row level security;

create policy tasks_owner_all on tasks
    to todo_app
    using (user_id = nullif(current_setting('app.user_id', true), ''));

create policy tasks_readonly_select on tasks
    for select
    to todo_readonly
    using (true);

grant select, delete on tasks to todo_app;

grant insert (user_id, title, description, status, priority, due_date, tags) on tasks to todo_app;

grant update (title, description, status, priority, due_date, tags) on tasks to todo_app;

grant select on tasks to todo_readonly;
