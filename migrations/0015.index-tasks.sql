-- squawk-ignore-file require-concurrent-index-creation
-- Safe: the table came with the files just before and is empty wherever this one runs.

-- The key itself serves the list, newest first, and its pages.

-- Lists by completed yes or no, and by priority: order by priority_rank desc, id desc within one
-- half, and a merge of the two halves for all. It ends HOT updates for a change of state, which
-- is why no other index mentions one but the next, which is small.
create index tasks_user_id_completed_priority_rank_id_idx
    on tasks (user_id, completed, priority_rank desc, id desc);

-- Lists and counts where status = 'pending', newest first, of users with few of many.
create index tasks_pending_idx on tasks (user_id, id) where status = 'pending';

-- Lists ordered or filtered by due date. Undated tasks come last, in a second segment, by the key.
create index tasks_user_id_due_date_id_idx
    on tasks (user_id, due_date, id)
    where due_date is not null;
