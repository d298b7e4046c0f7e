-- Shape and names are Better Auth's. No row security: the grant opens the table to its role alone,
-- which takes a used row away and writes a new one, so it needs no UPDATE.
create table verification (
    id text collate "C" not null,
    identifier text not null,
    value text not null,
    "expiresAt" timestamptz not null,
    "createdAt" timestamptz not null default now(),
    "updatedAt" timestamptz not null default now(),
    constraint verification_pkey primary key (id),
    constraint verification_id_length_check check (char_length(id) between 1 and 255),
    constraint verification_identifier_length_check check (char_length(identifier) >= 1)
);

comment on table verification is 'One-time secrets: reset links, mail confirmations, OAuth states.';

comment on column verification.id is 'Made by Better Auth.';

comment on column verification.identifier is
    'What the secret is for; may be there more than once, then the newest counts.';

comment on column verification.value is 'What the flow needs to go on: a user id, or JSON.';

comment on column verification."expiresAt" is 'Better Auth deletes what is older than now.';

comment on column verification."createdAt" is 'When the secret was made; the newest counts.';

comment on column verification."updatedAt" is 'Set by Better Auth; equal to createdAt as a rule.';

grant select, insert, delete on verification to todo_auth;
