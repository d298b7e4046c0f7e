-- squawk-ignore-file require-concurrent-index-creation
-- Safe: the tables came with the files just before and are empty wherever this one runs.

-- The list of conversations by last activity, and its pages.
create index conversations_user_id_updated_at_id_idx
    on conversations (user_id, updated_at desc, id desc);

-- A conversation's messages in order, and the foreign key's cascade.
create index messages_user_id_conversation_id_id_idx on messages (user_id, conversation_id, id);
