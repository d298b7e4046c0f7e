-- The roles, which belong to the whole cluster and so to no migration: migrations only grant to
-- them, and no rollback drops one, since another database may hold grants.
--
-- Safe to run again, by several at once, and by anyone where nothing is missing. A role that exists
-- keeps its LOGIN, its password and any limit somebody chose: only what is missing is added.
--
--     todo_app       the application, under row security
--     todo_auth      Better Auth, on the tables of accounts
--     todo_readonly  people who read and never write
--
-- They cannot log in as they are. Either make them, outside the repository:
--     alter role todo_app login password '...';
-- or grant them to a login role, which then needs the limits below itself: a role's settings come
-- with the log-in, not with membership or SET ROLE.
do $$
declare
    role_name text;
    wanted record;
begin
    foreach role_name in array array['todo_app', 'todo_auth', 'todo_readonly'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
            exception
                -- Another session made it between the look and the act, and has committed.
                when duplicate_object or unique_violation then
                    null;
            end;
        end if;

        if exists (
            select
            from pg_catalog.pg_roles
            where rolname = role_name and (rolsuper or rolbypassrls)
        ) then
            raise exception 'role % sees every row: it is a superuser or has BYPASSRLS', role_name
                using hint = format('alter role %I nosuperuser nobypassrls', role_name);
        end if;

        -- Since PostgreSQL 16 a CREATEROLE role administers what it made but may not SET ROLE to it
        -- before it says so. Who administers nothing here has nothing to add.
        if not pg_has_role(current_user, role_name, 'set')
            and pg_has_role(current_user, role_name, 'member with admin option')
        then
            execute format('grant %I to current_user with inherit false, set true', role_name);
        end if;
    end loop;

    -- Limits for the application: poolers refuse them as connection options.
    for attempt in 1..10 loop
        select setting.name, setting.value
        into wanted
        from (
            values
                ('statement_timeout', '30s'),
                ('lock_timeout', '5s'),
                ('idle_in_transaction_session_timeout', '30s')
        ) as setting (name, value)
        where not exists (
            select
            from pg_catalog.pg_roles
            cross join unnest(rolconfig) as present (entry)
            where rolname = 'todo_app' and starts_with(present.entry, setting.name || '=')
        )
        limit 1;
        exit when not found;

        begin
            execute format('alter role todo_app set %I = %L', wanted.name, wanted.value);
        exception
            -- Another session wrote the role's one row of settings first ("tuple concurrently
            -- updated" is an internal_error) and has committed: look again what is missing.
            when unique_violation or internal_error then
                if attempt = 10 then
                    raise;
                end if;
        end;
    end loop;
end
$$;
