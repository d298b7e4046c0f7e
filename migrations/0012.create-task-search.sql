-- A row of its own beside each task, which a change of state or date does not rewrite. The key covers
-- the words, so that a search reads one range of it and then only the tasks that match: under row
-- security no index can look for a word, since neither @@ nor LIKE is leakproof.
create table task_search (
    user_id text collate "C" not null,
    task_id bigint not null,
    words text collate "C" not null,
    constraint task_search_pkey primary key (user_id, task_id) include (words),
    constraint task_search_task_id_fkey
        foreign key (user_id, task_id) references tasks (user_id, id) on delete cascade
)
with (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02
);

comment on table task_search is
    'Search words of each task, kept by triggers on tasks and removed by the cascade alone.';

comment on column task_search.user_id is 'Whose task it is, as in tasks.';

comment on column task_search.task_id is 'The task that has these words.';

comment on column task_search.words is
    'search_words() of its title and description; match it with search_patterns().';

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

grant insert (user_id, task_id, words) on task_search to todo_app;

grant update (words) on task_search to todo_app;

grant select on task_search to todo_readonly;

create function set_task_search()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
    new_words constant text := public.search_words(public.task_vector(new.title, new.description));
begin
    if tg_op = 'INSERT' then
        insert into public.task_search (user_id, task_id, words)
        values (new.user_id, new.id, new_words);
    else
        update public.task_search
        set words = new_words
        where user_id = new.user_id and task_id = new.id and words <> new_words;
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
