drop function tags_are_valid(text[]);
