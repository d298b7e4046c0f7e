-- squawk-ignore-file require-concurrent-index-creation
-- Safe: the table came with the files just before and is empty wherever this one runs.

-- The key itself serves the list, newest first, and its pages. An index that leads with the state
-- ends HOT updates for a change of state, which then writes into every index: there are three of
-- them, of which one is small. The figures are in sql/README.md.
--
-- All columns ascend; a list that descends reads backward.

-- Open tasks by priority in one range. All tasks by priority, and open or completed ones newest
-- first, are merges of two or three ranges: each limited, with the order and the limit again around
-- them (a UNION ALL without the inner limits reads every row).
create index tasks_user_id_completed_priority_rank_id_idx
    on tasks (user_id, completed, priority_rank, id);

-- By due date: open or completed ones in one range, all in a merge of two. Undated tasks come last,
-- in a second segment, by the key.
create index tasks_user_id_completed_due_date_id_idx
    on tasks (user_id, completed, due_date, id)
    where due_date is not null;

-- In progress, newest first, of users with few of many. Completing a task or opening it again writes
-- nothing here.
create index tasks_in_progress_idx on tasks (user_id, id) where status = 'in_progress';
