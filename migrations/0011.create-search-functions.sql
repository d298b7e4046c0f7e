-- A search reads in two steps. It finds candidates in the words of task_search, which an index
-- covers, and then asks the text of those few tasks itself, which also ranks them and knows phrases.
-- Bodies of the form RETURN are bound to their functions now: no search path can change them.
create function task_vector(title text, description text)
returns tsvector
language sql
immutable
parallel safe
return setweight(to_tsvector('pg_catalog.english', title), 'A')
    || setweight(to_tsvector('pg_catalog.english', coalesce(description, '')), 'B');

comment on function task_vector(text, text) is
    'What a search matches and ranks: lexemes of the title with weight A, the description''s with B.';

create function search_words(vector tsvector)
returns text
language plpgsql
immutable
parallel safe
set search_path = ''
as $$
declare
    -- A vector's lexemes are in the order of their bytes, and stay so when they are cut.
    words constant text := regexp_replace(
        ' ' || array_to_string(tsvector_to_array(vector), ' '), '( \S{4})\S+', '\1', 'g'
    );
begin
    -- An index row has 2,704 bytes, of which the longest user id takes 1,020.
    return case when octet_length(words) <= 1600 then words else '*' end;
end
$$;

comment on function search_words(tsvector) is
    'Lexemes in order, a space before each and cut to 4 characters; * for too many to index.';

create function search_query(asked text)
returns tsquery
language sql
immutable
parallel safe
return (
    select
        case
            when typed ~ '[^\s"]$'
                -- The last word is no stop word and not excluded by a minus.
                and numnode(plainto_tsquery('pg_catalog.english', substring(typed, '[^\s"]+$'))) > 0
                and query::text ~ '(^|[^!])''([^'']|'''')+''$'
            then (query::text || ':*')::tsquery
            else query
        end
    from (
        -- A line of dashes is no exclusion, and would nest deeper than a query can be.
        select regexp_replace(left(asked, 1000), '(-\s*){2,}', ' ', 'g')
    ) as cleaned (typed)
    cross join websearch_to_tsquery('pg_catalog.english', typed) as query
);

comment on function search_query(text) is
    'What people type, its first 1000 characters: words, "phrases", -minus, OR; the last word, if not '
    'ended, is a prefix of stems: "rep" finds reports; "weekl" does not find weekly, whose stem is week.';

create function search_patterns(query tsquery)
returns text[]
language sql
immutable
parallel safe
return (
    select
        case
            -- Nothing but exclusions, or a nesting that search_query never makes: any task may match.
            when tree in ('', 'T') or regexp_replace(tree, '''([^'']|'''')+''', '', 'g') ~ '[()!]'
            then '{%}'
            -- The last is for tasks with too many words to index.
            else '{*}' || array(
                select
                    '%' || string_agg(
                        ' ' || regexp_replace(word, '([\\%_])', '\\\1', 'g'), '%' order by word
                    ) || '%'
                from (
                    select number, word, lead(word) over (partition by number order by word) as next
                    from regexp_split_to_table(tree, ' \| ') with ordinality as part (terms, number)
                    cross join regexp_matches(terms, '''((?:[^'']|'''')+)''', 'g') as match
                    cross join lateral (
                        select left(replace(replace(match[1], '''''', ''''), '\\', '\'), 4) collate "C"
                    ) as cut (word)
                ) as words
                -- A word that begins the next one would look for a second stored word.
                where starts_with(next, word) is not true
                group by number
            )
        end
    from querytree(query) as tree
);

comment on function search_patterns(tsquery) is
    'For words like any (...): a pattern for each alternative; lets through every match and few others.';

revoke execute on function task_vector(text, text) from public;

revoke execute on function search_words(tsvector) from public;

revoke execute on function search_query(text) from public;

revoke execute on function search_patterns(tsquery) from public;

-- The trigger that keeps the words runs as whoever writes the task.
grant execute on function task_vector(text, text) to todo_app, todo_readonly;

grant execute on function search_words(tsvector) to todo_app, todo_readonly;

grant execute on function search_query(text) to todo_app, todo_readonly;

grant execute on function search_patterns(tsquery) to todo_app, todo_readonly;
