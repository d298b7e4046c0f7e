create function set_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    -- now() is when the transaction began, perhaps before another one's that has come first.
    new.updated_at := greatest(now(), old.updated_at);
    return new;
end
$$;

comment on function set_updated_at() is
    'BEFORE UPDATE trigger: stamps updated_at. The trigger''s WHEN decides what is a real change.';

-- A trigger fires without this privilege; nobody has a reason to call the function.
revoke execute on function set_updated_at() from public;
