-- A body of the form RETURN is bound to its functions and operators now: no search path can change
-- what it means, and none has to be set at every call. The blank characters are those that Python's
-- str.strip() removes; a locale's class would differ between servers.
create function tags_are_valid(tags text[])
returns boolean
language sql
immutable
parallel safe
return (
    -- A NULL, a blank, an overlong and a repeated tag each miss from the second count.
    select count(*) = count(distinct tag) filter (
        where
            char_length(tag) <= 50
            and tag ~ '[^\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a'
                '\u2028\u2029\u202f\u205f\u3000]'
    )
    from unnest(tags) as item (tag)
);

comment on function tags_are_valid(text[]) is
    'True if no tag is NULL, blank, over 50 characters, or there twice. Raises for no input.';

revoke execute on function tags_are_valid(text[]) from public;

-- A CHECK calls its functions as the role that writes the row.
grant execute on function tags_are_valid(text[]) to todo_app;
