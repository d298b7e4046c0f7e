-- name: load users
insert into "user" select id, name, email from incoming_user

-- name: load tasks
insert into tasks
select
    md5(id::text)::uuid::text, user_id, title, description, status, priority, to_jsonb(tags),
    created_at, updated_at
from incoming_tasks
order by id

-- name: get one
select * from tasks where id = md5(%(id)s::text)::uuid::text and user_id = %(user)s

-- name: newest
select * from tasks where user_id = %(user)s order by created_at desc limit %(limit)s

-- name: newest, page 400
select * from tasks where user_id = %(user)s order by created_at desc limit %(limit)s offset %(offset)s

-- name: open by priority
select * from tasks
where user_id = %(user)s and status in ('pending', 'in_progress')
order by case priority when 'high' then 3 when 'medium' then 2 else 1 end desc, created_at desc
limit %(limit)s

-- name: open newest
select * from tasks where user_id = %(user)s and status in ('pending', 'in_progress') order by created_at desc limit %(limit)s

-- name: pending newest
select * from tasks
where user_id = %(user)s and status = 'pending'
order by created_at desc
limit %(limit)s

-- name: in progress newest
select * from tasks where user_id = %(user)s and status = 'in_progress' order by created_at desc limit %(limit)s

-- name: completed newest
select * from tasks where user_id = %(user)s and status = 'completed' order by created_at desc limit %(limit)s

-- name: all by priority
select * from tasks
where user_id = %(user)s
order by case priority when 'high' then 3 when 'medium' then 2 else 1 end desc, created_at desc
limit %(limit)s

-- name: all by priority, page 400
select * from tasks
where user_id = %(user)s
order by case priority when 'high' then 3 when 'medium' then 2 else 1 end desc, created_at desc
limit %(limit)s offset %(offset)s

-- name: by title
select * from tasks
where user_id = %(user)s
order by lower(title) collate "C", created_at
limit %(limit)s

-- name: by tag
select * from tasks
where user_id = %(user)s and tags @> '["home"]'
order by created_at desc
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
order by ts_rank(vector, websearch_to_tsquery('english', %(typed)s)) desc, created_at desc
limit %(limit)s

-- name: counts
select status, count(*) from tasks where user_id = %(user)s group by 1

-- name: write insert
insert into tasks (id, user_id, title, description, tags)
values (
    gen_random_uuid()::text, %(user)s, %(title)s, %(description)s, '["home", "work"]'
)

-- name: write toggle
update tasks
set status = case status when 'completed' then 'pending' else 'completed' end, updated_at = now()
where id = md5(%(id)s::text)::uuid::text

-- name: write title
update tasks set title = %(title)s, updated_at = now() where id = md5(%(id)s::text)::uuid::text

-- name: write tags
update tasks set tags = '["home", "phone"]', updated_at = now() where id = md5(%(id)s::text)::uuid::text

-- name: write priority
update tasks
set priority = case priority when 'high' then 'low' else 'high' end, updated_at = now()
where id = md5(%(id)s::text)::uuid::text
