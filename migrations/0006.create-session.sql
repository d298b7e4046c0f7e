-- Shape and names are Better Auth's. No row security: the grant opens the table to its role alone.
create table session (
    id text collate "C" not null,
    "expiresAt" timestamptz not null,
    token text not null,
    "createdAt" timestamptz not null default now(),
    "updatedAt" timestamptz not null,
    "ipAddress" text,
    "userAgent" text,
    "userId" text collate "C" not null,
    constraint session_pkey primary key (id),
    constraint session_token_key unique (token),
    constraint session_user_id_fkey foreign key ("userId") references "user" (id) on delete cascade,
    constraint session_id_length_check check (char_length(id) between 1 and 255),
    constraint session_token_length_check check (char_length(token) >= 1)
);

comment on table session is 'Signed-in browsers and devices, one row each; secret.';

comment on column session.id is 'Made by Better Auth.';

comment on column session."expiresAt" is 'From here on the token is refused; use moves it on.';

comment on column session.token is
    'What the client''s cookie carries: whoever reads it is that user.';

comment on column session."createdAt" is 'Time of sign-in.';

comment on column session."updatedAt" is 'Set by Better Auth at every renewal.';

comment on column session."ipAddress" is 'Address at sign-in; NULL if the proxy tells none.';

comment on column session."userAgent" is
    'Browser at sign-in, as it names itself; NULL if it does not.';

comment on column session."userId" is 'Whose session it is; it goes with the account.';

grant select, insert, update, delete on session to todo_auth;
