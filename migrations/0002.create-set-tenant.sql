-- SET LOCAL and not set_config(): Citus passes only the first on to its workers. Like every SET
-- LOCAL it outlives the function and ends with the transaction, or with a savepoint's rollback.
create function set_tenant(user_id text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    -- An empty setting would look the same as none at all, which the policies take for "nobody".
    if user_id is null or user_id = '' then
        raise exception 'set_tenant() needs the id of a user'
            using errcode = 'invalid_parameter_value';
    end if;
    execute format('set local app.user_id = %L', user_id);
end
$$;

comment on function set_tenant(text) is
    'Says whose rows the rest of this transaction may see and write; refuses NULL and ''''.';

revoke execute on function set_tenant(text) from public;

grant execute on function set_tenant(text) to todo_app;
