-- A row of its own beside each task: the vector doubles a task's size, and a change of state or
-- date must not rewrite it.
create table task_search (
    user_id text collate "C" not null,
    task_id bigint not null,
    search tsvector not null,
    constraint task_search_pkey primary key (user_id, task_id),
    constraint task_search_task_id_fkey
        foreign key (user_id, task_id) references tasks (user_id, id) on delete cascade
);

comment on table task_search is
    'Search words of each task, kept by triggers on tasks and removed by the cascade alone.';

comment on column task_search.user_id is 'Whose task it is, as in tasks.';

comment on column task_search.task_id is 'The task that has these words.';

comment on column task_search.search is
    'English lexemes: weight A from the title, B from the description.';

alter table task_search enable row level security;

alter table task_search force row level security;

create policy task_search_owner_all on task_search
    to todo_app
    using (user_id = nullif(current_setting('app.user_id', true), ''));

create policy task_search_readonly_select on task_search
    for select
    to todo_readonly
    using (true);

-- For the trigger, which runs as whoever writes the task: under forced row security a SECURITY
-- DEFINER function fails even for a superuser's insert. No DELETE: the cascade needs no privilege.
grant select on task_search to todo_app;

grant insert (user_id, task_id, search) on task_search to todo_app;

grant update (search) on task_search to todo_app;

grant select on task_search to todo_readonly;

create function set_task_search()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
    words constant tsvector :=
        setweight(to_tsvector('pg_catalog.english', new.title), 'A')
        || setweight(to_tsvector('pg_catalog.english', coalesce(new.description, '')), 'B');
begin
    if tg_op = 'INSERT' then
        insert into public.task_search (user_id, task_id, search)
        values (new.user_id, new.id, words);
    else
        update public.task_search
        set search = words
        where user_id = new.user_id and task_id = new.id;
    end if;
    return null;
end
$$;

comment on function set_task_search() is
    'AFTER trigger on tasks: writes the task''s search row, as the role that writes the task.';

-- A trigger fires without this privilege; nobody has a reason to call the function.
revoke execute on function set_task_search() from public;

create trigger tasks_insert_task_search
    after insert on tasks
    for each row
    execute function set_task_search();

create trigger tasks_update_task_search
    after update of title, description on tasks
    for each row
    when ((old.title, old.description) is distinct from (new.title, new.description))
    execute function set_task_search();
