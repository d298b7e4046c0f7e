-- name: load users
insert into "user" select id, name, email from incoming_user

-- name: load tasks
insert into tasks
select
    id, user_id, title, description, status = 'completed', status = 'in_progress', priority, due_date,
    to_jsonb(tags), created_at, updated_at
from incoming_tasks
order by id

-- name: get one
select * from tasks where id = %(id)s and user_id = %(user)s

-- name: newest
select * from tasks where user_id = %(user)s order by id desc limit %(limit)s

-- name: newest, page 400
select * from tasks where user_id = %(user)s order by id desc limit %(limit)s offset %(offset)s

-- name: open by priority
select * from tasks
where user_id = %(user)s and not completed
order by case priority when 'high' then 3 when 'medium' then 2 else 1 end desc, id desc
limit %(limit)s

-- name: open newest
select * from tasks where user_id = %(user)s and not completed order by id desc limit %(limit)s

-- name: pending newest
select * from tasks
where user_id = %(user)s and not completed and not in_progress
order by id desc
limit %(limit)s

-- name: in progress newest
select * from tasks where user_id = %(user)s and in_progress order by id desc limit %(limit)s

-- name: completed newest
select * from tasks where user_id = %(user)s and completed order by id desc limit %(limit)s

-- name: all by priority
select * from tasks
where user_id = %(user)s
order by case priority when 'high' then 3 when 'medium' then 2 else 1 end desc, id desc
limit %(limit)s

-- name: all by priority, page 400
select * from tasks
where user_id = %(user)s
order by case priority when 'high' then 3 when 'medium' then 2 else 1 end desc, id desc
limit %(limit)s offset %(offset)s

-- name: by due date
select * from tasks where user_id = %(user)s order by due_date nulls last, id limit %(limit)s

-- name: by due date, page 400
select * from tasks
where user_id = %(user)s
order by due_date nulls last, id
limit %(limit)s offset %(offset)s

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
where user_id = %(user)s and tags @> '["home"]'
order by id desc
limit %(limit)s

-- name: search
select t.*
from tasks as t
cross join lateral (
    select
        setweight(to_tsvector('english', title), 'A')
        || setweight(to_tsvector('english', coalesce(description, '')), 'B') as vector
    offset 0
) as v
where user_id = %(user)s and vector @@ websearch_to_tsquery('english', %(typed)s)
order by ts_rank(vector, websearch_to_tsquery('english', %(typed)s)) desc, id desc
limit %(limit)s

-- name: counts
select case when completed then 'completed' when in_progress then 'in_progress' else 'pending' end as status, count(*) from tasks where user_id = %(user)s group by 1

-- name: write insert
insert into tasks (user_id, title, description, due_date, tags)
values (%(user)s, %(title)s, %(description)s, '2026-03-04', '["home", "work"]')

-- name: write toggle
update tasks set completed = not completed, updated_at = now() where id = %(id)s

-- name: write title
update tasks set title = %(title)s, updated_at = now() where id = %(id)s

-- name: write tags
update tasks set tags = '["home", "phone"]', updated_at = now() where id = %(id)s

-- name: write priority
update tasks
set priority = case priority when 'high' then 'low' else 'high' end, updated_at = now()
where id = %(id)s
