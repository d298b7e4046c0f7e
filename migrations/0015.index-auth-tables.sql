-- squawk-ignore-file require-concurrent-index-creation
-- Safe: the tables came with the files just before and are empty wherever this one runs.

-- Better Auth's list of a user's sessions, where "userId" = $1 and "expiresAt" > $2, and the
-- foreign key's cascade.
create index session_user_id_expires_at_idx on session ("userId", "expiresAt");

-- Sign-in, where "userId" = $1, and the foreign key's cascade.
create index account_user_id_idx on account ("userId");

-- Password reset, where identifier = $1 order by "createdAt" desc limit 1.
create index verification_identifier_created_at_idx on verification (identifier, "createdAt");

-- Clean-up at every verification, delete where "expiresAt" < $1.
create index verification_expires_at_idx on verification ("expiresAt");
