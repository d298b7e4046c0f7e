drop function search_patterns(tsquery);

drop function search_query(text);

drop function search_words(tsvector);

drop function task_vector(text, text);
