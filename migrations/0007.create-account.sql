-- Shape and names are Better Auth's. No row security: the grant opens the table to its role alone.
create table account (
    id text collate "C" not null,
    "accountId" text not null,
    "providerId" text not null,
    "userId" text collate "C" not null,
    "accessToken" text,
    "refreshToken" text,
    "idToken" text,
    "accessTokenExpiresAt" timestamptz,
    "refreshTokenExpiresAt" timestamptz,
    scope text,
    password text,
    "createdAt" timestamptz not null default now(),
    "updatedAt" timestamptz not null,
    constraint account_pkey primary key (id),
    constraint account_provider_id_account_id_key unique ("providerId", "accountId"),
    constraint account_user_id_fkey foreign key ("userId") references "user" (id) on delete cascade,
    constraint account_id_length_check check (char_length(id) between 1 and 255),
    constraint account_account_id_length_check check (char_length("accountId") >= 1),
    constraint account_provider_id_length_check check (char_length("providerId") >= 1)
);

comment on table account is 'Ways to sign in, one row for each provider a user has linked; secret.';

comment on column account.id is 'Made by Better Auth.';

comment on column account."accountId" is
    'The user''s id at the provider; our own user id where the provider is a password.';

comment on column account."providerId" is
    'credential for a password, else github, google and so on.';

comment on column account."userId" is 'Who signs in this way; the row goes with the user.';

comment on column account."accessToken" is 'For the provider''s API; NULL for a password.';

comment on column account."refreshToken" is
    'Renews the access token; NULL if the provider gives none.';

comment on column account."idToken" is 'Last OpenID token; NULL if the provider gives none.';

comment on column account."accessTokenExpiresAt" is 'NULL if the provider does not say.';

comment on column account."refreshTokenExpiresAt" is 'NULL if the provider does not say.';

comment on column account.scope is 'What the user allowed at the provider, as one string.';

comment on column account.password is 'Hash made by Better Auth; the only place with passwords.';

comment on column account."createdAt" is 'When this way to sign in was linked.';

comment on column account."updatedAt" is 'Set by Better Auth, for instance with a new password.';

grant select, insert, update, delete on account to todo_auth;
