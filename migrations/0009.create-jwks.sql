-- Shape and names are Better Auth's. No row security: the grant opens the table to its role alone.
create table jwks (
    id text collate "C" not null,
    "publicKey" text not null,
    "privateKey" text not null,
    "createdAt" timestamptz not null default now(),
    "expiresAt" timestamptz,
    alg text,
    crv text,
    constraint jwks_pkey primary key (id),
    constraint jwks_id_length_check check (char_length(id) between 1 and 255)
);

comment on table jwks is 'Key pairs that sign JSON web tokens; Better Auth makes one on first use.';

comment on column jwks.id is 'The kid in a token''s header.';

comment on column jwks."publicKey" is 'JSON web key with which a backend checks a token.';

comment on column jwks."privateKey" is 'Signs tokens; encrypted with Better Auth''s secret.';

comment on column jwks."createdAt" is 'The newest key signs.';

comment on column jwks."expiresAt" is 'When the key is replaced; NULL without rotation.';

comment on column jwks.alg is 'Algorithm, EdDSA by default; NULL in rows of older releases.';

comment on column jwks.crv is 'Curve, Ed25519 by default; NULL where the algorithm has none.';

grant select, insert on jwks to todo_auth;
