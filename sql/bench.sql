-- What `python -m scripts bench schema` does with this schema, each part as the application sends it:
-- as todo_app, under row security, after the part `session`. A budget is in shared buffers for a read
-- and in WAL bytes for a write; "typical" is for a user of about thirty tasks. Every list here is of
-- 20 tasks. The same parts in a folder of tests/baselines are another design's.

-- name: load users
insert into "user" select * from incoming_user

-- name: load tasks
insert into tasks (
    user_id, id, title, description, status, priority, due_date, tags, created_at, updated_at
)
overriding system value
select user_id, id, title, description, status, priority, due_date, tags, created_at, updated_at
from incoming_tasks
order by id

-- name: session
select set_tenant(%(user)s)

-- name: get one
-- budget: 5
select * from tasks where user_id = %(user)s and id = %(id)s

-- name: newest
-- budget: 26
select * from tasks where user_id = %(user)s order by id desc limit %(limit)s

-- name: newest, page 400
-- budget: 26
select * from tasks
where user_id = %(user)s and id < %(newest_after)s
order by id desc
limit %(limit)s

-- name: open by priority
-- budget: 26
select * from tasks
where user_id = %(user)s and not completed
order by priority_rank desc, id desc
limit %(limit)s

-- name: open newest
-- budget: 60
select * from (
    (
        select * from tasks
        where user_id = %(user)s and not completed and priority_rank = 3
        order by id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and not completed and priority_rank = 2
        order by id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and not completed and priority_rank = 1
        order by id desc
        limit %(limit)s
    )
) as merged
order by id desc
limit %(limit)s

-- name: pending newest
-- budget: 60
select * from (
    (
        select * from tasks
        where user_id = %(user)s and not completed and priority_rank = 3 and status = 'pending'
        order by id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and not completed and priority_rank = 2 and status = 'pending'
        order by id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and not completed and priority_rank = 1 and status = 'pending'
        order by id desc
        limit %(limit)s
    )
) as merged
order by id desc
limit %(limit)s

-- name: in progress newest
-- budget: 60
select * from tasks
where user_id = %(user)s and status = 'in_progress'
order by id desc
limit %(limit)s

-- name: completed newest
-- budget: 60
select * from (
    (
        select * from tasks
        where user_id = %(user)s and completed and priority_rank = 3
        order by id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and completed and priority_rank = 2
        order by id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and completed and priority_rank = 1
        order by id desc
        limit %(limit)s
    )
) as merged
order by id desc
limit %(limit)s

-- name: all by priority
-- budget: 100
select * from (
    (
        select * from tasks
        where user_id = %(user)s and not completed
        order by priority_rank desc, id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where user_id = %(user)s and completed
        order by priority_rank desc, id desc
        limit %(limit)s
    )
) as merged
order by priority_rank desc, id desc
limit %(limit)s

-- name: all by priority, page 400
-- budget: 100
select * from (
    (
        select * from tasks
        where
            user_id = %(user)s
            and not completed
            and (priority_rank, id) < (%(priority_after_rank)s::smallint, %(priority_after)s)
        order by priority_rank desc, id desc
        limit %(limit)s
    )
    union all
    (
        select * from tasks
        where
            user_id = %(user)s
            and completed
            and (priority_rank, id) < (%(priority_after_rank)s::smallint, %(priority_after)s)
        order by priority_rank desc, id desc
        limit %(limit)s
    )
) as merged
order by priority_rank desc, id desc
limit %(limit)s

-- name: by due date
-- budget: 100
-- The dated ones, and only where those do not fill the page the undated.
with dated as (
    select * from (
        (
            select * from tasks
            where user_id = %(user)s and not completed and due_date is not null
            order by due_date, id
            limit %(limit)s
        )
        union all
        (
            select * from tasks
            where user_id = %(user)s and completed and due_date is not null
            order by due_date, id
            limit %(limit)s
        )
    ) as merged
    order by due_date, id
    limit %(limit)s
)

select * from dated
union all
(
    select * from tasks
    where user_id = %(user)s and due_date is null
    order by id
    limit %(limit)s - (select count(*) from dated)
)

-- name: by due date, page 400
-- budget: 100
-- It lies among the undated: 60 of 100 tasks have a date.
select * from tasks
where user_id = %(user)s and due_date is null and id > %(undated_after)s
order by id
limit %(limit)s

-- name: open by due date
-- budget: 60
select * from tasks
where user_id = %(user)s and not completed and due_date is not null
order by due_date, id
limit %(limit)s

-- name: by title
-- budget: rows
select * from tasks
where user_id = %(user)s
order by lower(title) collate "C", id
limit %(limit)s

-- name: by tag
-- budget: rows
select * from tasks
where user_id = %(user)s and tags @> '{home}'
order by id desc
limit %(limit)s

-- name: search
-- budget: 600, typical 45
with wanted as materialized (
    select search_query(%(typed)s) as query
)

select t.*
from wanted
cross join tasks as t
cross join lateral (select task_vector(t.title, t.description) as vector offset 0) as v
where
    t.user_id = %(user)s
    and t.id = any (
        array(
            select task_id
            from task_search
            where
                user_id = %(user)s
                and words like any ((select search_patterns(query) from wanted)::text[])
        )
    )
    and vector @@ query
order by ts_rank(vector, query) desc, t.id desc
limit %(limit)s

-- name: counts
-- budget: 130
-- Sorted by id, so that it reads the key: the visibility map's pages come in order.
select status, count(*)
from (select status from tasks where user_id = %(user)s order by id offset 0) as every
group by status

-- name: write insert
-- budget: 1600
insert into tasks (user_id, title, description, due_date, tags)
values (%(user)s, %(title)s, %(description)s, '2026-03-04', '{home,work}')

-- name: write toggle
-- budget: 450
update tasks
set status = case when completed then 'pending' else 'completed' end
where user_id = %(user)s and id = %(id)s

-- name: write title
-- budget: 900
update tasks set title = %(title)s where user_id = %(user)s and id = %(id)s

-- name: write tags
-- budget: 250
update tasks set tags = '{home,phone}' where user_id = %(user)s and id = %(id)s

-- name: write description
update tasks set description = %(description)s where user_id = %(user)s and id = %(id)s

-- name: write priority
update tasks
set priority = case priority when 'high' then 'low' else 'high' end
where user_id = %(user)s and id = %(id)s

-- name: write due date
update tasks set due_date = '2026-05-06' where user_id = %(user)s and id = %(id)s

-- name: write delete
delete from tasks where user_id = %(user)s and id = %(id)s
