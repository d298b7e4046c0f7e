-- Whoever runs migrations, our runner or yoyo itself, makes _yoyo_migration before the first file.
-- SECURITY DEFINER opens this one answer to roles that may not read the table.
create function schema_version()
returns text
language sql
stable
security definer
set search_path = ''
as $$
    select max(migration_id collate "C")
    from public._yoyo_migration
$$;

comment on function schema_version() is
    'Newest applied migration, NULL with none; an application compares it when it starts.';

revoke execute on function schema_version() from public;

grant execute on function schema_version() to todo_app, todo_auth, todo_readonly;
