-- Demo data by the reference distribution: one user of a hundred is heavy and has 333 times the
-- tasks of another; 60% of the tasks are completed, 40% have no description, a heavy user's rows
-- are scattered over the whole table. `python -m scripts seed` runs the parts in order, `before` to
-- `messages` once for each slice of time and with several sessions at once. Everything follows from
-- the seed and a row's number by a hash: no random(), whose columns come out correlated when a sort
-- stands beside it.

-- name: prepare
-- A number in [0, 1) that belongs to a row, a seed and a purpose.
create function pg_temp.portion(number bigint, salt bigint)
returns double precision
language sql
immutable
return (hashint8extended(number, salt) & 1048575) / 1048576.0;

-- name: plan
-- How many tasks each user has, and what is special about some heavy ones: 3 open tasks, the oldest;
-- 5 in progress; one priority only; no due dates.
create temporary table seed_user as
with weighted as (
    select
        n,
        n < %(heavy)s as heavy,
        case when n < %(heavy)s then 10000 else 10 + n %% 41 end as weight
    from generate_series(0, %(users)s::bigint - 1) as n
),

summed as (
    select
        *,
        sum(weight) over (order by n) as upto,
        sum(weight) over () as total
    from weighted
)

select
    n,
    heavy,
    md5(format('seed %%s user %%s', %(seed)s::bigint, n)) as id,
    floor(%(tasks)s * upto / total)::bigint - floor(%(tasks)s * (upto - weight) / total)::bigint
        as tasks,
    case
        when heavy
        then (array[null, 'oldest open', 'few in progress', 'one priority', 'undated'])[n %% 8 + 1]
    end as kind,
    pg_temp.portion(n, %(seed)s) as phase
from summed;

-- name: users
insert into "user" (id, name, email, "emailVerified")
select id, format('User %%s', n), format('user%%s.seed%%s@example.com', n, %(seed)s::bigint), true
from seed_user
order by n;

-- name: before
-- How many tasks come before a moment of [0, 1]: a user's tasks are spread evenly over the time.
select sum(ceil(%(moment)s::float8 * tasks - phase))::bigint
from seed_user
where tasks > 0;

-- name: slice
-- The tasks of a slice of time [start, end) in the order of their moments, numbered through all slices.
create temporary table slice on commit drop as
select
    u.*,
    k,
    row_number() over (order by (k + phase) / tasks, n) + %(before)s as number,
    timestamptz '2025-01-01 00:00+00' + (k + phase) / tasks * interval '365 days' as at
from seed_user as u
cross join lateral generate_series(
    ceil(%(start)s::float8 * tasks - phase)::bigint,
    ceil(%(end)s::float8 * tasks - phase)::bigint - 1
) as k
where tasks > 0;

-- name: tasks
with words as (
    select
        '{Plan,Review,Write,Fix,Call,Send,Order,Check,Update,Prepare,Discuss,Clean,Book,Collect,
        Measure,Translate}'::text[] as verbs,
        '{weekly,new,old,final,first,urgent,small,missing,annual,broken,shared,open}'::text[]
            as adjectives,
        '{report,invoice,meeting,garden,budget,contract,kitchen,server,ticket,lesson,trip,letter,
        bicycle,backup,painting,recipe,window,passport,library,telescope,orchard,violin,lantern,
        quarry,zeppelin}'::text[] as nouns,
        array[
            'Ask the neighbours whether Tuesday suits them and bring the drawings.',
            'The numbers of last month are still missing from the second table.',
            'Take the shorter road, the bridge is closed until the end of the week.',
            'Everybody has answered but the printer, who wants to see a sample first.',
            'Keep the receipts together, the accountant needs them before Friday.',
            'It worked yesterday on the old machine, so compare the settings.',
            'Two of the chairs are loose and the lamp by the door flickers.',
            'Write down what was decided and who promised to do it.',
            'The seller offers a discount for orders above one hundred pieces.',
            'Nothing here is urgent, but it has been waiting for a long time.',
            'Look up how others have solved it before you begin again.',
            'The children want to come along if the weather stays dry.'
        ] as sentences,
        '{home,work,errand,idea,waiting,phone,money,health,family,reading,travel,later}'::text[]
            as tags,
        '{ba,do,fe,gi,ho,ka,lu,me,ni,po,ra,su,ta,vo,we,zi}'::text[] as syllables
),

drawn as (
    select
        slice.*,
        words.*,
        pg_temp.portion(number, %(seed)s + 1) as r1,
        pg_temp.portion(number, %(seed)s + 2) as r2,
        pg_temp.portion(number, %(seed)s + 3) as r3,
        pg_temp.portion(number, %(seed)s + 4) as r4,
        pg_temp.portion(number, %(seed)s + 5) as r5,
        pg_temp.portion(number, %(seed)s + 6) as r6
    from slice
    cross join words
)

insert into tasks (
    user_id, id, title, description, status, priority, due_date, tags, created_at, updated_at
)
overriding system value
select
    id,
    number + %(offset)s,
    -- Powers of a portion make some words common and others rare.
    verbs[1 + floor(16 * r1)] || ' the ' || adjectives[1 + floor(12 * r2)] || ' '
    || nouns[1 + floor(25 * r3 ^ 3)]
    -- Every third has a name, of which there are 4,096: words that few tasks have.
    || case
        when r5 < 0.33
        then ' for ' || initcap(
            syllables[1 + floor(16 * r4)] || syllables[1 + floor(16 * r6)]
            || syllables[1 + floor(48 * r5)]
        )
        else ''
    end,
    case
        when r4 >= 0.4
        then sentences[1 + floor(12 * r1 ^ 2)] || ' ' || sentences[1 + floor(12 * r3)]
    end,
    case
        when kind = 'oldest open' then case when k < 3 then 'pending' else 'completed' end
        when kind = 'few in progress' and k * 5 / tasks < (k + 1) * 5 / tasks then 'in_progress'
        when r5 < 0.6 then 'completed'
        when r5 < 0.9 or kind = 'few in progress' then 'pending'
        else 'in_progress'
    end,
    case
        when kind = 'one priority' then 'medium'
        when r6 < 0.25 then 'low'
        when r6 < 0.75 then 'medium'
        else 'high'
    end,
    case
        when r2 < 0.6 and kind is distinct from 'undated'
        then at::date + floor(r4 * 90)::int
    end,
    case when r6 >= 0.5 then tags[1 + floor(12 * r5) : 1 + floor(12 * r5) + floor(3 * r1)] else '{}' end,
    at,
    at + r3 * interval '20 days'
from drawn
order by number;

-- name: conversations
-- One begins with each twentieth task of a user, so that heavy users have many.
insert into conversations (user_id, id, title, created_at, updated_at)
overriding system value
select id, number + %(offset)s, format('Conversation %%s', k / 20 + 1), at, at
from slice
where k %% 20 = 0
order by number;

-- name: messages
insert into messages (user_id, id, conversation_id, role, content, created_at)
overriding system value
select
    id,
    (number - 1) * 8 + turn + %(offset)s,
    number + %(conversation)s,
    case when turn %% 2 = 1 then 'user' else 'assistant' end,
    case
        when turn %% 2 = 1 then 'What is next for task ' || number || '?'
        else 'The next step of task ' || number || ' is number ' || turn / 2 || ' of four.'
    end,
    at + turn * interval '20 seconds'
from slice
cross join generate_series(1, 8) as turn
where k %% 20 = 0
order by number, turn;

-- name: reserve
-- Takes a block of ids that nobody else will get; returns the number before its first. setval sees
-- no rollback, so the block is taken for good, even if the load is not finished.
select setval(sequence, before + %(count)s) - %(count)s
from (
    select
        pg_get_serial_sequence(%(table)s, 'id')::regclass as sequence,
        coalesce(pg_sequence_last_value(pg_get_serial_sequence(%(table)s, 'id')::regclass), 0)
            as before
) as present;

-- name: analyze
-- So that plans and estimates know of the rows before autovacuum comes round. The system's tables are
-- not this role's and are passed over.
analyze
