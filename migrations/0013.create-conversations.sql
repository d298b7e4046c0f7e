create table conversations (
    user_id text collate "C" not null,
    id bigint not null generated always as identity,
    title text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint conversations_pkey primary key (user_id, id),
    constraint conversations_user_id_fkey
        foreign key (user_id) references "user" (id) on delete cascade,
    constraint conversations_title_length_check check (char_length(title) between 1 and 200),
    -- The same characters as in tasks_title_blank_check.
    constraint conversations_title_blank_check check (
        title ~ '[^\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a'
            '\u2028\u2029\u202f\u205f\u3000]'
    )
);

comment on table conversations is 'Threads of messages between a user and the assistant.';

comment on column conversations.user_id is 'Whose conversation it is; never changes.';

comment on column conversations.id is 'Newest is highest; always asked for with user_id.';

comment on column conversations.title is
    '1 to 200 characters, not all blank; NULL until it has one.';

comment on column conversations.created_at is 'Set by the database.';

comment on column conversations.updated_at is
    'Last activity: a new title or a new message. The list is ordered by it.';

-- updated_at is among the columns, which is what makes it safe to grant: the trigger of messages
-- has to write it as todo_app, and whatever value is written becomes now(), so none can be forged.
create trigger conversations_set_updated_at
    before update on conversations
    for each row
    when ((old.title, old.updated_at) is distinct from (new.title, new.updated_at))
    execute function set_updated_at();

alter table conversations enable row level security;

alter table conversations force row level security;

create policy conversations_owner_all on conversations
    to todo_app
    using (user_id = nullif(current_setting('app.user_id', true), ''));

create policy conversations_readonly_select on conversations
    for select
    to todo_readonly
    using (true);

grant select, delete on conversations to todo_app;

grant insert (user_id, title) on conversations to todo_app;

grant update (title, updated_at) on conversations to todo_app;

grant select on conversations to todo_readonly;
