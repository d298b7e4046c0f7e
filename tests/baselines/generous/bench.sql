-- name: load users
insert into "user" select id, name, email from incoming_user

-- name: load tasks
insert into tasks (
    id, user_id, title, description, status, priority, due_date, tags, created_at, updated_at
)
select
    id, user_id, title, description, status, priority, due_date, tags, created_at, updated_at
from incoming_tasks
order by id

-- name: get one
select * from tasks where user_id = %(user)s and id = %(id)s

-- name: newest
select * from tasks where user_id = %(user)s order by id desc limit %(limit)s

-- name: newest, page 400
select * from tasks
where user_id = %(user)s and id < %(newest_after)s
order by id desc
limit %(limit)s

-- name: open by priority
select * from tasks
where user_id = %(user)s and not completed
order by priority_rank desc, id desc
limit %(limit)s

-- name: open newest
select * from tasks where user_id = %(user)s and not completed order by id desc limit %(limit)s

-- name: pending newest
select * from tasks
where user_id = %(user)s and status = 'pending'
order by id desc
limit %(limit)s

-- name: in progress newest
select * from tasks where user_id = %(user)s and status = 'in_progress' order by id desc limit %(limit)s

-- name: completed newest
select * from tasks where user_id = %(user)s and completed order by id desc limit %(limit)s

-- name: all by priority
select * from tasks
where user_id = %(user)s
order by priority_rank desc, id desc
limit %(limit)s

-- name: all by priority, page 400
select * from tasks
where
    user_id = %(user)s
    and (priority_rank, id) < (%(priority_after_rank)s::smallint, %(priority_after)s)
order by priority_rank desc, id desc
limit %(limit)s

-- name: by due date
select * from tasks where user_id = %(user)s order by due_date nulls last, id limit %(limit)s

-- name: by due date, page 400
select * from tasks
where user_id = %(user)s and due_date is null and id > %(undated_after)s
order by id
limit %(limit)s

-- name: open by due date
select * from tasks
where user_id = %(user)s and not completed and due_date is not null
order by due_date, id
limit %(limit)s

-- name: by title
select * from tasks
where user_id = %(user)s
order by lower(title) collate "C", id
limit %(limit)s

-- name: by tag
select * from tasks
where user_id = %(user)s and tags @> '{home}'
order by id desc
limit %(limit)s

-- name: search
select t.*
from tasks as t
where user_id = %(user)s and search @@ websearch_to_tsquery('english', %(typed)s)
order by ts_rank(search, websearch_to_tsquery('english', %(typed)s)) desc, id desc
limit %(limit)s

-- name: counts
select status, count(*) from tasks where user_id = %(user)s group by 1

-- name: write insert
insert into tasks (user_id, title, description, due_date, tags)
values (%(user)s, %(title)s, %(description)s, '2026-03-04', '{home,work}')

-- name: write toggle
update tasks
set status = case when completed then 'pending' else 'completed' end, updated_at = now()
where user_id = %(user)s and id = %(id)s

-- name: write title
update tasks set title = %(title)s, updated_at = now() where user_id = %(user)s and id = %(id)s

-- name: write tags
update tasks set tags = '{home,phone}', updated_at = now() where user_id = %(user)s and id = %(id)s

-- name: write priority
update tasks
set priority = case priority when 'high' then 'low' else 'high' end, updated_at = now()
where user_id = %(user)s and id = %(id)s
