-- The foreign key carries the user, so no message can stand in another user's conversation; it
-- also ties the row to "user", which spares a second key and its row lock at every insert.
create table messages (
    user_id text collate "C" not null,
    id bigint not null generated always as identity,
    conversation_id bigint not null,
    role text not null,
    content text not null,
    created_at timestamptz not null default now(),
    constraint messages_pkey primary key (user_id, id),
    constraint messages_conversation_id_fkey
        foreign key (user_id, conversation_id) references conversations (user_id, id)
        on delete cascade,
    constraint messages_role_check check (role in ('user', 'assistant')),
    constraint messages_content_length_check check (char_length(content) between 1 and 10000)
);

comment on table messages is 'What was said in a conversation; written once, never changed.';

comment on column messages.user_id is 'Whose conversation it is, whoever speaks; never changes.';

comment on column messages.id is 'The order of a conversation; always asked for with user_id.';

comment on column messages.conversation_id is 'The conversation it belongs to, of the same user.';

comment on column messages.role is 'Who speaks: user or assistant.';

comment on column messages.content is '1 to 10000 characters.';

comment on column messages.created_at is
    'Set by the database. Order by id: many rows share a time.';

alter table messages enable row level security;

alter table messages force row level security;

create policy messages_owner_all on messages
    to todo_app
    using (user_id = nullif(current_setting('app.user_id', true), ''));

create policy messages_readonly_select on messages
    for select
    to todo_readonly
    using (true);

grant select, delete on messages to todo_app;

grant insert (user_id, conversation_id, role, content) on messages to todo_app;

grant select on messages to todo_readonly;

create function touch_conversation()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    -- "<" writes once for many messages of a transaction, and never moves the time back when a
    -- transaction that began earlier comes later.
    update public.conversations
    set updated_at = now()
    where user_id = new.user_id and id = new.conversation_id and updated_at < now();
    return null;
end
$$;

comment on function touch_conversation() is
    'AFTER INSERT trigger on messages: moves the conversation''s updated_at, as the writing role.';

-- A trigger fires without this privilege; nobody has a reason to call the function.
revoke execute on function touch_conversation() from public;

create trigger messages_touch_conversation
    after insert on messages
    for each row
    execute function touch_conversation();
